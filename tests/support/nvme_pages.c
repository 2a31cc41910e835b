/*
 * A controller for the installed nvme-cli: preloaded, it answers the kernel's NVMe ioctls from a
 * folder, $NVME_PAGES. The file OO-SS has the data of the commands of opcode OO whose dword 10 has
 * SS in its lowest byte (CNS, LID, FID), both hexadecimal; of a log page the part asked for. A
 * command that has no file ends with Invalid Field in Command.
 */
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { GET_LOG_PAGE = 0x02, INVALID_FIELD = 0x02, NAMESPACE_ID = 1 };

/* Returns 0, the command's status, or -1 for a request that is no command. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	struct nvme_passthru_cmd *command = va_arg(arguments, void *);
	va_end(arguments);
	(void)fd;
	if (request == (unsigned long)NVME_IOCTL_ID)
		return NAMESPACE_ID;
	if (request != NVME_IOCTL_ADMIN_CMD && request != NVME_IOCTL_IO_CMD)
		return -1;

	char path[4096];
	snprintf(path, sizeof path, "%s/%02x-%02x", getenv("NVME_PAGES"), command->opcode,
		 command->cdw10 & 0xff);
	int file = open(path, O_RDONLY);
	if (file < 0)
		return INVALID_FIELD;
	off_t offset = 0;
	if (command->opcode == GET_LOG_PAGE)
		offset = (off_t)((uint64_t)command->cdw13 << 32 | command->cdw12);
	void *data = (void *)(uintptr_t)command->addr;
	memset(data, 0, command->data_len);
	ssize_t read = pread(file, data, command->data_len, offset);
	close(file);
	return read < 0 ? -1 : 0;
}
