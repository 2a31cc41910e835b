/* CHECK: as assert(), whatever NDEBUG says. */
#ifndef TEST_H
#define TEST_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                      \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__,        \
				__func__, #condition);                                        \
			abort();                                                              \
		}                                                                             \
	} while (0)

#endif
