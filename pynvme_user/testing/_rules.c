/* Rules: which commands something is done with. */
#include "_internal.h"

#include <stdlib.h>
#include <string.h>

/* Data faults know no queue: a rule for one is for all. */
#define ANY_IO_QUEUE 1

static int has_blocks(uint8_t opcode)
{
	return opcode == OPC_READ || opcode == OPC_WRITE || opcode == OPC_COMPARE ||
	       opcode == OPC_WRITE_ZEROES;
}

static int is_data_fault(uint32_t action)
{
	return action != CONTROLLER_EXECUTE && action <= CONTROLLER_KEPT_TRIM &&
	       action != CONTROLLER_STATUS;
}

static uint64_t lba_of(const struct nvme_sqe *sqe)
{
	return (uint64_t)sqe->cdw11 << 32 | sqe->cdw10;
}

static int matches(const struct controller_rule *rule, uint32_t qid, const struct nvme_sqe *sqe)
{

	if (rule->queues != CONTROLLER_ANY && (rule->queues == CONTROLLER_ADMIN) != !qid)
		return 0;
	if (rule->qid >= 0 && (uint32_t)rule->qid != qid)
		return 0;
	switch (rule->opcode) {
	case -1:
		return 1;
	case -2:
		return sqe->opc == OPC_READ || sqe->opc == OPC_WRITE;
	}
	return rule->opcode == sqe->opc;
}

/* Whether one of these blocks, or none where the command has none, is among the rule's. */
static int touches(const struct controller_rule *rule, uint64_t lba, uint64_t blocks)
{
	return !rule->blocks || (lba < rule->lba + rule->blocks && rule->lba < lba + blocks);
}

/* Whether a command of that many blocks can have a fault of data. */
static int can_have(const struct controller *c, const struct controller_rule *rule, uint64_t lba,
		    uint64_t blocks)
{
	/* Wraps to a number beyond all blocks where it would be below the first. */
	uint64_t elsewhere = lba + (uint64_t)rule->value;

	switch (rule->action) {
	case CONTROLLER_TORN_WRITE:
		return blocks > (uint64_t)rule->value;
	case CONTROLLER_MISDIRECTED:
		return elsewhere < c->config.blocks && blocks <= c->config.blocks - elsewhere;
	}
	return 1;
}

/* Whether the rule, which matches, acts this time. */
static int is_turn(struct controller_rule *rule)
{
	rule->seen++;
	if (rule->seen < rule->nth || (rule->seen - rule->nth) % rule->every ||
	    (rule->times && rule->acted == rule->times))
		return 0;
	rule->acted++;
	return 1;
}

static void note(struct controller *c, uint64_t lba)
{
	if (c->log.planted < CONTROLLER_PLANTED)
		c->log.lbas[c->log.planted] = lba;
	c->log.planted++;
}

const struct controller_rule *controller_plants(struct controller *c, const struct nvme_sqe *sqe,
						enum controller_action action, uint64_t lba,
						uint64_t blocks)
{
	for (uint32_t i = 0; i < c->rule_count; i++) {
		struct controller_rule *rule = &c->rules[i].rule;

		if (rule->action != (uint32_t)action || !matches(rule, ANY_IO_QUEUE, sqe) ||
		    !touches(rule, lba, blocks) || !can_have(c, rule, lba, blocks) ||
		    !is_turn(rule))
			continue;
		note(c, lba);
		return rule;
	}
	return NULL;
}

void controller_judge(struct controller *c, uint32_t qid, struct held *held)
{
	const struct nvme_sqe *sqe = &held->sqe;
	uint64_t lba = lba_of(sqe), blocks = (sqe->cdw12 & 0xffff) + 1;

	if (!qid || !has_blocks(sqe->opc))
		lba = blocks = 0;
	for (uint32_t i = 0; i < c->rule_count; i++) {
		struct rule *at = &c->rules[i];

		if (is_data_fault(at->rule.action) || !matches(&at->rule, qid, sqe) ||
		    !touches(&at->rule, lba, blocks) || !is_turn(&at->rule))
			continue;
		held->action = at->rule.action;
		held->value = at->rule.value;
		held->due += at->delay;
		if (qid && at->rule.action != CONTROLLER_EXECUTE &&
		    at->rule.action != CONTROLLER_ANSWER)
			note(c, lba);
		return;
	}
}

/* Stale reads need memory for what was there before. */
static int keep_previous(struct controller *c)
{
	size_t blocks = c->config.blocks;

	if (c->previous || !c->config.storage)
		return 0;
	c->previous = calloc(blocks, (size_t)1 << c->config.block_shift);
	c->was_read = calloc(blocks, 1);
	if (c->previous && c->was_read)
		return 0;
	free(c->previous);
	free(c->was_read);
	c->previous = c->was_read = NULL;
	return -ENOMEM;
}

/* I/O commands are looked at one by one where they take time, or a rule may be for them. */
static void choose_path(struct controller *c)
{
	c->one_by_one = c->delay_ticks || c->slow_ticks || c->config.model;
	for (uint32_t i = 0; i < c->rule_count; i++)
		c->one_by_one |= c->rules[i].rule.queues != CONTROLLER_ADMIN &&
				 !is_data_fault(c->rules[i].rule.action);
}

int controller_rule_add(struct controller *c, const struct controller_rule *rule)
{
	struct rule *at = &c->rules[c->rule_count];

	if (rule->action >= CONTROLLER_ACTIONS || rule->queues > CONTROLLER_ANY || !rule->nth ||
	    !rule->every || (rule->action == CONTROLLER_TORN_WRITE && rule->value < 1) ||
	    (rule->action == CONTROLLER_ANSWER && !c->config.answer) ||
	    (is_data_fault(rule->action) && (rule->delay_ns || rule->qid >= 0 || rule->queues != CONTROLLER_IO)) ||
	    rule->opcode < -2 || rule->lba + rule->blocks < rule->lba)
		return -EINVAL;
	if (c->rule_count == RULES_MAX)
		return -ENOSPC;
	if (rule->action == CONTROLLER_STALE_READ && keep_previous(c))
		return -ENOMEM;
	*at = (struct rule){
		.rule = *rule,
		.id = ++c->last_rule,
		.delay = controller_ticks_of(rule->delay_ns),
	};
	at->rule.seen = at->rule.acted = 0;
	c->rule_count++;
	choose_path(c);
	return (int)at->id;
}

static void after_removal(struct controller *c)
{
	int stale = 0;

	for (uint32_t i = 0; i < c->rule_count; i++)
		stale |= c->rules[i].rule.action == CONTROLLER_STALE_READ;
	if (!stale) {
		free(c->previous);
		free(c->was_read);
		c->previous = c->was_read = NULL;
	}
	choose_path(c);
}

void controller_rules_clear(struct controller *c)
{
	c->rule_count = 0;
	after_removal(c);
}

static struct rule *find(struct controller *c, uint32_t id)
{
	for (uint32_t i = 0; i < c->rule_count; i++)
		if (c->rules[i].id == id)
			return &c->rules[i];
	return NULL;
}

int controller_add_rule(struct controller *c, const struct controller_rule *rule)
{
	int id;

	controller_enter(c);
	id = controller_rule_add(c, rule);
	controller_leave(c);
	return id;
}

int controller_get_rule(struct controller *c, uint32_t id, struct controller_rule *rule)
{
	const struct rule *at;

	controller_enter(c);
	at = find(c, id);
	if (at)
		*rule = at->rule;
	controller_leave(c);
	return at ? 0 : -ENOENT;
}

int controller_remove_rule(struct controller *c, uint32_t id)
{
	struct rule *at;
	int err = 0;

	controller_enter(c);
	at = find(c, id);
	if (!id) {
		controller_rules_clear(c);
	} else if (!at) {
		err = -ENOENT;
	} else {
		memmove(at, at + 1, (size_t)(&c->rules[c->rule_count] - (at + 1)) * sizeof(*at));
		c->rule_count--;
		after_removal(c);
	}
	controller_leave(c);
	return err;
}
