/* sync.h: files that survive a power cut. */
#ifndef PTQ_CORE_SYNC_H
#define PTQ_CORE_SYNC_H

/* What was written to fd is on the disk: 0, or errno. Pipes, devices and some network file systems
 * know no fsync: no fault of the data. */
int ptq_sync_file(int fd);
/* So is the name of a file that was made or renamed there; a folder that cannot be synced is no
 * fault of the data. */
void ptq_sync_folder_of(const char *path);
#endif
