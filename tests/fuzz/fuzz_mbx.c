#include <assert.h>
#include <errno.h>

#include "compat/mbxrec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct mbx_header h;
	int err = mbx_header_parse(data, len, &h, NULL);

	assert(err == 0 || err == -EBADMSG);
	return 0;
}
