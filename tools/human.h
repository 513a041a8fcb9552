/*
 * human.h - numbers for people.
 */
#pragma once

#include <stdint.h>

enum { HUMAN_MAX = 48 };

/** human_count - "1,204". Return: @out */
const char *human_count(uint64_t n, char out[HUMAN_MAX]);
/** human_things - "1 message", "1,204 messages"; @thing: in the singular */
const char *human_things(uint64_t n, const char *thing, char out[HUMAN_MAX]);
/** human_octets - "812 B", "4.2 MB", "37 GB". Return: @out */
const char *human_octets(uint64_t octets, char out[HUMAN_MAX]);
/** human_seconds - "0:42", "1:02:03" */
const char *human_seconds(uint64_t s, char out[HUMAN_MAX]);
