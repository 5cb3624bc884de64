/* Prints how it was started: how a super-server applied a line of its configuration. bench/imports
 * installs it in place of each program. */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	gid_t groups[64];
	char directory[4096];
	struct stat file;
	struct rlimit limit;
	const int limits[] = {RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_RSS, RLIMIT_STACK};
	int number = getgroups(64, groups);
	mode_t mask = umask(0);

	/* A socket that is closed with unread bytes resets the connection, and the client may lose all
	 * that was printed. */
	while (read(0, directory, sizeof directory) > 0)
		;
	for (int i = 0; i < argc; i++)
		printf("word %d: %s\n", i, argv[i]);
	printf("user %d, group %d, %d groups\n", (int)getuid(), (int)getgid(), number);
	printf("directory %s, mask %03o, nice %d\n", getcwd(directory, sizeof directory), (int)mask, getpriority(PRIO_PROCESS, 0));
	for (char **name = (char *[]){"REMOTE_HOST", "INHERITED", NULL}; *name; name++)
		printf("%s is %s\n", *name, getenv(*name) ? getenv(*name) : "not set");
	for (int fd = 0; fd < 3; fd++)
		printf("%d is %s\n", fd, fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) ? "the client" : "something else");
	for (int fd = 3; fd < 1024; fd++)
		if (fstat(fd, &file) == 0)
			printf("%d is open\n", fd);
	for (int i = 0; i < (int)(sizeof limits / sizeof *limits); i++)
		if (getrlimit(limits[i], &limit) == 0)
			printf("limit %d is %lld\n", i, (long long)limit.rlim_max);
	printf("no new privileges: %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	return 0;
}
