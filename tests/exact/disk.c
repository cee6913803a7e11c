// A disk that fails on demand: preloaded into the server, it lets writes and syncs of files below a "store" folder fail as the
// first byte of the file named by DISK_CONTROL says: 'f' the disk is full, a digit that it is full after so many writes, 's' syncs
// fail, 'w' writes fail, else all is well.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile char *control;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("DISK_CONTROL");
    int fd = name ? open(name, O_RDONLY) : -1;
    if (fd < 0) abort();
    control = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) abort();
    close(fd);
}

static int is_of_store(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    // RocksDB's own log of what it does is no data.
    return strstr(path, "/store/") && !strstr(path, "/store/LOG");
}

static int fails_to_write(int fd) {
    static char before;
    static int passed;
    char how = control ? *control : 0;
    if (how != before) passed = 0;
    before = how;
    int counts = how >= '0' && how <= '9';
    if ((how != 'f' && how != 'w' && !counts) || !is_of_store(fd)) return 0;
    if (counts && passed++ < how - '0') return 0;
    errno = how == 'w' ? EIO : ENOSPC;
    return 1;
}

static int fails_to_sync(int fd) {
    if (!control || *control != 's' || !is_of_store(fd)) return 0;
    errno = EIO;
    return 1;
}

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

ssize_t write(int fd, const void *from, size_t n) { return fails_to_write(fd) ? -1 : REAL(write, fd, from, n); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { return fails_to_write(fd) ? -1 : REAL(pwrite, fd, from, n, at); }
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) { return fails_to_write(fd) ? -1 : REAL(pwrite64, fd, from, n, at); }
ssize_t writev(int fd, const struct iovec *from, int n) { return fails_to_write(fd) ? -1 : REAL(writev, fd, from, n); }
int fsync(int fd) { return fails_to_sync(fd) ? -1 : REAL(fsync, fd); }
int fdatasync(int fd) { return fails_to_sync(fd) ? -1 : REAL(fdatasync, fd); }
