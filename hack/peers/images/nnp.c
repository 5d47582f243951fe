// nnp: prints the effective user id; its file belongs to root and is set-user-id, which no_new_privileges must make useless.
#include <stdio.h>
#include <unistd.h>

int main(void) {
    printf("Effective uid: %d\n", geteuid());
    return 0;
}
