/* Several benchmarks in one thread. See _bench_many.h. */
#include "_bench_many.h"
#include "_bench_inline.h"

/* Give one its turn. Returns whether the caller has to see to it. */
static int member_turn(struct nvme_bench_member *member)
{
	const struct nvme_bench *b = member->bench;

	if (member->done)
		return 0;
	if (member->split)
		member->done = nvme_bench_split_run(member->qp, member->split, 0);
	else
		member->done = nvme_bench_run(member->qp, member->bench, 0);
	return member->done || bench_log_is_full(b);
}

int nvme_bench_run_many(struct nvme_bench_member *members, uint32_t count, uint64_t timeout_ns)
{
	struct deadline deadline = { ticks_now(), ns_to_ticks(timeout_ns) };
	int stops = 0;

	/* A poll that coalesces completions waits for them: the other queue pairs would wait, too. */
	for (uint32_t i = 0; i < count; i++)
		members[i].qp->coalesce = members[i].qp->coalesce_max = 1;
	do
		for (uint32_t i = 0; i < count; i++)
			stops |= member_turn(&members[i]);
	while (!stops && !deadline_passed(deadline, ticks_now()));
	return stops;
}
