/* See _histogram.h. */
#include "_histogram.h"

#include <string.h>

void nvme_histogram_clear(struct nvme_histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	histogram->min = UINT64_MAX;
}

void nvme_histogram_add(struct nvme_histogram *histogram, uint64_t ns)
{
	histogram_add(histogram, ns, 1);
}
