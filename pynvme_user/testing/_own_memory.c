/* Memory of the controller's own, and the registers that tell of it (Base 2.1, 3.1.4 and 8.2). */
#include "_internal.h"

enum { CMBLOC = 0x38, CMBSZ = 0x3c, CMBMSC = 0x50, CMBSTS = 0x58 };

#define CAP_CMBS (1u << 25) /* bit 57 */

/* Data pointers and commands may lie in and outside of it as they like (CDPMLS, CDPCILS). */
#define CMBLOC_BAR2 (2u | 1u << 5 | 1u << 6)

#define CMBMSC_CRE  UINT64_C(1)
#define CMBMSC_CMSE UINT64_C(2)
#define CMBSTS_CBAI 1u

uint32_t controller_own_memory_cap(const struct controller *c)
{
	return c->config.cmb && !c->config.cmb_at ? CAP_CMBS : 0;
}

/* Put the buffer where CMBMSC says, or nowhere. */
static void write_cmbmsc(struct controller *c, uint64_t value)
{
	const struct controller_config *config = &c->config;

	if (value == c->cmbmsc || !controller_own_memory_cap(c))
		return;
	if (c->cmbmsc & CMBMSC_CMSE && !c->cmbsts)
		controller_region_remove(c, c->cmbmsc & ~(uint64_t)(PAGE_SIZE - 1),
					 config->cmb_length);
	c->cmbmsc = value;
	c->cmbsts = 0;
	if (value & CMBMSC_CMSE &&
	    controller_region_add(c, value & ~(uint64_t)(PAGE_SIZE - 1), config->cmb_length,
				  config->cmb, config->cmb_uses))
		c->cmbsts = CMBSTS_CBAI;
}

void controller_own_memory_write(struct controller *c, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case CMBMSC:
		write_cmbmsc(c, (c->cmbmsc & ~UINT64_C(0xffffffff)) | value);
		break;
	case CMBMSC + 4:
		write_cmbmsc(c, (uint32_t)c->cmbmsc | (uint64_t)value << 32);
		break;
	default: /* read-only, or not there: a write is lost */
		break;
	}
}

uint32_t controller_own_memory_read(const struct controller *c, uint32_t offset)
{
	int told = c->config.cmb && (c->config.cmb_at || c->cmbmsc & CMBMSC_CRE);

	switch (offset) {
	case CMBLOC:
		return told ? CMBLOC_BAR2 : 0;
	case CMBSZ: /* in units of 4 KiB */
		return told ? c->config.cmb_uses | (uint32_t)(c->config.cmb_length / PAGE_SIZE) << 12
			    : 0;
	case CMBMSC:
		return (uint32_t)c->cmbmsc;
	case CMBMSC + 4:
		return (uint32_t)(c->cmbmsc >> 32);
	case CMBSTS:
		return c->cmbsts;
	}
	return 0;
}

void controller_own_memory_reset(struct controller *c)
{
	write_cmbmsc(c, 0);
}
