/* Memory of the controller's own, and the registers that tell of it (Base 2.1, 3.1.4 and 8.2). */
#include "_internal.h"

#include <sys/mman.h>

enum {
	CMBLOC = 0x38,
	CMBSZ = 0x3c,
	CMBMSC = 0x50,
	CMBSTS = 0x58,
	PMRCAP = 0xe00,
	PMRCTL = 0xe04,
	PMRSTS = 0xe08,
	PMRMSCL = 0xe14,
	PMRMSCU = 0xe18
};

#define CAP_PMRS (1u << 24) /* bit 56 */
#define CAP_CMBS (1u << 25) /* bit 57 */

/* Data pointers and commands may lie in and outside of it as they like (CDPMLS, CDPCILS). */
#define CMBLOC_BAR2 (2u | 1u << 5 | 1u << 6)

#define CMBMSC_CRE  UINT64_C(1)
#define CMSE	    UINT64_C(2) /* of CMBMSC and of PMRMSCL */
#define CMBSTS_CBAI 1u

#define PMRCAP_BAR3   (3u << 5)
#define PMRCAP_USES   (CONTROLLER_RDS | CONTROLLER_WDS) /* RDS and WDS lie as in CMBSZ */
#define PMRCTL_EN     1u
#define PMRSTS_NRDY   (1u << 8)
#define PMRSTS_CBAI   (1u << 12)

static int has_placed_cmb(const struct controller *c)
{
	return c->config.cmb && !c->config.cmb_at;
}

uint32_t controller_own_memory_cap(const struct controller *c)
{
	return (has_placed_cmb(c) ? CAP_CMBS : 0) | (c->config.pmr ? CAP_PMRS : 0);
}

static uint64_t address_in(uint64_t control)
{
	return control & ~(uint64_t)(PAGE_SIZE - 1);
}

/* Put the buffer where CMBMSC says, or nowhere. */
static void write_cmbmsc(struct controller *c, uint64_t value)
{
	const struct controller_config *config = &c->config;

	if (value == c->cmbmsc || !has_placed_cmb(c))
		return;
	if (c->cmbmsc & CMSE && !c->cmbsts)
		controller_region_remove(c, address_in(c->cmbmsc), config->cmb_length);
	c->cmbmsc = value;
	c->cmbsts = 0;
	if (value & CMSE && controller_region_add(c, address_in(value), config->cmb_length,
						  config->cmb, config->cmb_uses))
		c->cmbsts = CMBSTS_CBAI;
}

/* Enable the region or not, and put it where the host says, or nowhere. */
static void write_pmr(struct controller *c, uint32_t pmrctl, uint64_t pmrmsc)
{
	const struct controller_config *config = &c->config;
	int was = c->pmrctl & PMRCTL_EN && c->pmrmsc & CMSE && !c->pmr_invalid;

	if (!config->pmr || (pmrctl == c->pmrctl && pmrmsc == c->pmrmsc))
		return;
	if (was)
		controller_region_remove(c, address_in(c->pmrmsc), config->pmr_length);
	c->pmrctl = pmrctl;
	c->pmrmsc = pmrmsc;
	c->pmr_invalid = 0;
	if (pmrctl & PMRCTL_EN && pmrmsc & CMSE)
		c->pmr_invalid = controller_region_add(c, address_in(pmrmsc), config->pmr_length,
						       config->pmr,
						       config->pmrcap & PMRCAP_USES) != 0;
}

/* What was written before is persistent when this has been read (PMRCAP.PMRWBM). */
static uint32_t read_pmrsts(const struct controller *c)
{
	uint32_t not_ready = c->pmrctl & PMRCTL_EN ? 0 : PMRSTS_NRDY;

	if (!c->config.pmr)
		return 0;
	msync(c->config.pmr, c->config.pmr_length, MS_SYNC);
	return (c->pmrsts | not_ready) | (c->pmr_invalid ? PMRSTS_CBAI : 0);
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
	case PMRCTL:
		write_pmr(c, value & PMRCTL_EN, c->pmrmsc);
		break;
	case PMRMSCL:
		write_pmr(c, c->pmrctl, (c->pmrmsc & ~UINT64_C(0xffffffff)) | (value & ~1u));
		break;
	case PMRMSCU:
		write_pmr(c, c->pmrctl, (uint32_t)c->pmrmsc | (uint64_t)value << 32);
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
	case PMRCAP:
		return c->config.pmr ? c->config.pmrcap | PMRCAP_BAR3 : 0;
	case PMRCTL:
		return c->pmrctl;
	case PMRSTS:
		return read_pmrsts(c);
	case PMRMSCL:
		return (uint32_t)c->pmrmsc;
	case PMRMSCU:
		return (uint32_t)(c->pmrmsc >> 32);
	}
	return 0;
}

void controller_own_memory_reset(struct controller *c)
{
	write_cmbmsc(c, 0);
	write_pmr(c, 0, 0);
}

void controller_set_pmrsts(struct controller *c, uint32_t pmrsts)
{
	controller_enter(c);
	c->pmrsts = pmrsts;
	controller_leave(c);
}
