/* Makes libseccomp's program for a profile, the way runc drives libseccomp, and writes it to standard output.
 *
 * Standard input, a line each: "default ACTION", "arch NAME", "rule ACTION NAME [INDEX OP A B]...". ACTION is the return value
 * in hex, NAME of an architecture is libseccomp's ("x86_64"), OP is enum scmp_compare. Names of system calls that it doesn't know
 * are written to standard error; so is a rule that it refuses, after "refused", and then the exit status is 3. */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static scmp_filter_ctx filter;

static void fail(const char *what, int code)
{
	fprintf(stderr, "refused %s: %s\n", what, strerror(-code));
	exit(3);
}

/* libseccomp has no names for what the kernel returns; it takes its own constants, which are the same numbers. */
static void add_rule(char *text)
{
	struct scmp_arg_cmp conditions[6];
	unsigned count = 0, action, index, op;
	unsigned long long a, b;
	char name[128];
	int used, at, code;

	if (sscanf(text, "%x %127s%n", &action, name, &at) != 2)
		exit(2);
	while (count < 6 && sscanf(text + at, " %u %u %llu %llu%n", &index, &op, &a, &b, &used) == 4) {
		conditions[count++] = (struct scmp_arg_cmp){index, op, a, b};
		at += used;
	}
	int number = seccomp_syscall_resolve_name(name);
	if (number == __NR_SCMP_ERROR) {
		fprintf(stderr, "unknown %s\n", name);
		return;
	}
	code = seccomp_rule_add_array(filter, action, number, count, conditions);
	if (code < 0)
		fail(name, code);
}

int main(void)
{
	static char line[4096];
	char *text;
	int code;

	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		text = strchr(line, ' ');
		if (!text)
			return 2;
		*text++ = 0;
		if (!strcmp(line, "default")) {
			filter = seccomp_init(strtoul(text, NULL, 16));
			if (!filter)
				fail(text, -EINVAL);
			seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
		} else if (!strcmp(line, "arch")) {
			code = seccomp_arch_add(filter, seccomp_arch_resolve_name(text));
			if (code < 0 && code != -EEXIST)
				fail(text, code);
		} else if (!strcmp(line, "rule")) {
			add_rule(text);
		} else {
			return 2;
		}
	}
	code = seccomp_export_bpf(filter, 1);
	if (code < 0)
		fail("export", code);
	return 0;
}
