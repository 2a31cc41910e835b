/* See _protection.h for what each function does and does not do. */
#include "_protection.h"

#include "_crc.h"

/* The storage tag above the reference tag: up to 80 bits. */
__extension__ typedef unsigned __int128 tag_field;

#define APP_TAG_ESCAPE 0xffff
#define TYPE_3 3

/* Bytes of a format's guard and of its tag field; the application tag between them has 2. */
struct format {
	uint32_t guard;
	uint32_t tags;
};

static struct format format_of(const struct nvme_protection *protection)
{
	static const struct format formats[] = { { 2, 4 }, { 4, 10 }, { 8, 6 } };

	return formats[protection->guard];
}

static tag_field be_load(const uint8_t *p, uint32_t length)
{
	tag_field value = 0;

	while (length--)
		value = value << 8 | *p++;
	return value;
}

static void be_store(uint8_t *p, uint32_t length, tag_field value)
{
	while (length--) {
		p[length] = (uint8_t)value;
		value >>= 8;
	}
}

static uint64_t ones(uint32_t bits)
{
	return bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
}

/* The guard of a block's data and of the metadata before its tuple. */
static uint64_t guard_of(const struct nvme_protection *protection, const uint8_t *data,
			 const uint8_t *metadata)
{
	uint32_t size = protection->block_size;
	uint32_t covered = protection->covered;

	switch (protection->guard) {
	case 0:
		return checksum_crc16(checksum_crc16(0, data, size), metadata, covered);
	case 1:
		return checksum_crc32c(checksum_crc32c(0, data, size), metadata, covered);
	default:
		return checksum_crc64(checksum_crc64(0, data, size), metadata, covered);
	}
}

/* The reference tag that a block has, or has to have. */
static uint64_t ref_tag_of(const struct nvme_protection *protection, uint64_t block,
			   uint32_t ref_bits)
{
	uint64_t step = protection->type == TYPE_3 ? 0 : block;

	return (protection->ref_tag + step) & ones(ref_bits);
}

void nvme_protection_generate(const struct nvme_protection *protection)
{
	struct format format = format_of(protection);
	uint32_t ref_bits = 8 * format.tags - protection->storage_bits;
	const uint8_t *data = protection->data;
	uint8_t *metadata = protection->metadata;

	for (uint64_t block = 0; block < protection->blocks; block++) {
		uint8_t *tuple = metadata + protection->offset;
		tag_field tags = (tag_field)protection->storage_tag << ref_bits |
				 ref_tag_of(protection, block, ref_bits);

		be_store(tuple, format.guard, guard_of(protection, data, metadata));
		be_store(tuple + format.guard, 2, protection->app_tag);
		be_store(tuple + format.guard + 2, format.tags, tags);
		data += protection->data_stride;
		metadata += protection->metadata_stride;
	}
}

/* Compare one part; returns whether it differs, and says so. */
static int differs(const struct nvme_protection *protection, struct nvme_protection_fault *fault,
		   enum nvme_protection_part part, uint64_t expected, uint64_t found, uint64_t mask)
{
	if (!(protection->checks & part) || !((expected ^ found) & mask))
		return 0;
	fault->part = part;
	fault->expected = expected;
	fault->found = found;
	return 1;
}

static int check_block(const struct nvme_protection *protection, struct nvme_protection_fault *fault,
		       const uint8_t *data, const uint8_t *metadata)
{
	struct format format = format_of(protection);
	uint32_t ref_bits = 8 * format.tags - protection->storage_bits;
	const uint8_t *tuple = metadata + protection->offset;
	uint64_t guard = (uint64_t)be_load(tuple, format.guard);
	uint64_t app_tag = (uint64_t)be_load(tuple + format.guard, 2);
	tag_field tags = be_load(tuple + format.guard + 2, format.tags);
	uint64_t ref_tag = (uint64_t)tags & ones(ref_bits);

	if (app_tag == APP_TAG_ESCAPE &&
	    (protection->type != TYPE_3 || ref_tag == ones(ref_bits)))
		return 0;
	if (protection->checks & NVME_PROTECTION_GUARD &&
	    differs(protection, fault, NVME_PROTECTION_GUARD, guard_of(protection, data, metadata),
		    guard, UINT64_MAX))
		return 1;
	return differs(protection, fault, NVME_PROTECTION_APP_TAG, protection->app_tag, app_tag,
		       protection->app_tag_mask) ||
	       differs(protection, fault, NVME_PROTECTION_STORAGE_TAG, protection->storage_tag,
		       (uint64_t)(tags >> ref_bits), protection->storage_tag_mask) ||
	       differs(protection, fault, NVME_PROTECTION_REF_TAG,
		       ref_tag_of(protection, fault->block, ref_bits), ref_tag, UINT64_MAX);
}

int nvme_protection_check(const struct nvme_protection *protection,
			  struct nvme_protection_fault *fault)
{
	const uint8_t *data = protection->data;
	const uint8_t *metadata = protection->metadata;

	*fault = (struct nvme_protection_fault){ 0 };
	for (; fault->block < protection->blocks; fault->block++) {
		if (check_block(protection, fault, data, metadata))
			return 1;
		data += protection->data_stride;
		metadata += protection->metadata_stride;
	}
	return 0;
}
