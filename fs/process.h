/*
 * process.h - what the daemon does to itself before it serves.
 */
#pragma once

#include <stdint.h>

/**
 * process_prepare - limits, groups, and a library that is needed at the end
 *
 * As many open files as we may have, with a warning when they are few; no
 * supplementary groups: requests act with those of the caller, or none. Call
 * it once, before other threads exist.
 */
void process_prepare(void);

/** process_files - how many files we may have open */
uint64_t process_files(void);
