/*
 * What other modules need to know of a file.
 */
#ifndef ZOKIO_CORE_FILE_H
#define ZOKIO_CORE_FILE_H

#include <zokio/file.h>

int zk__file_fd(const zk_file *file);

#endif
