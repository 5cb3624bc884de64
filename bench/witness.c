/* Prints how it was started: how a super-server applied a line of its configuration. bench/imports
 * installs it in place of each program. */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	gid_t groups[64];
	char directory[4096];
	struct stat file;
	int number = getgroups(64, groups);
	mode_t mask = umask(0);

	for (int i = 0; i < argc; i++)
		printf("word %d: %s\n", i, argv[i]);
	printf("user %d, group %d, %d groups\n", (int)getuid(), (int)getgid(), number);
	printf("directory %s, mask %03o, nice %d\n", getcwd(directory, sizeof directory), (int)mask, getpriority(PRIO_PROCESS, 0));
	for (char **name = (char *[]){"REMOTE_HOST", "INHERITED", NULL}; *name; name++)
		printf("%s is %s\n", *name, getenv(*name) ? getenv(*name) : "not set");
	for (int fd = 0; fd < 3; fd++)
		printf("%d is %s\n", fd, fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) ? "the client" : "something else");
	return 0;
}
