/*
 * The queue of what is to be sent: see send.c.
 */
#ifndef ZOKIO_WS_OUT_H
#define ZOKIO_WS_OUT_H

#include "ws/connection.h"
#include "ws/shared.h"

/* Some frames gathered, or the bytes of a large one. */
typedef struct zk__ws_piece zk__ws_piece;
struct zk__ws_piece {
    zk__ws_piece *next;
    const char *data; /* still to be sent */
    size_t size;
    char *end;             /* of the room behind it; NULL: the bytes are somebody else's */
    zk__ws_shared *shared; /* whose bytes they are; NULL: not a shared frame's */
    bool *is_over;         /* of who has lent them: set when they are not needed any more */
    uint32_t controls;
    bool is_droppable; /* whole messages only, and nothing of it was sent */
    bool is_part;      /* of the queue: the first piece, which has no memory of its own */
    char bytes[];
};

struct zk__ws_out {
    zk_ws *ws;
    zk__hook hook;
    zk__room room;
    zk__ws_piece *first, *last;
    zk__ws_piece *later, **later_end; /* shared frames, behind the message that is sent in pieces */
    size_t queued, later_bytes;
    uint32_t controls; /* in the queue */
    zk_time moved;     /* when the stream last took something, or was first asked to */
    bool is_blocked;   /* until there is room */
    bool has_piece;    /* the piece that lies behind it is in use, or has been */
    zk_task *streamer; /* between zk_ws_send_begin and _end; NULL: nobody is */
    uint8_t opcode;    /* of its next frame */
    bool is_text;
    zk__utf8 text;
};

/* The socket's, made if there is none. returns NULL: no memory. */
zk__ws_out *zk__ws_out_get(zk_ws *ws);

/* Drops what the peer has not begun to get, the oldest first, until the rest is within limits. */
void zk__ws_out_drop_oldest(zk__ws_out *o);

/* Whether messages may be sent. returns 0, or why not. */
static inline int zk__ws_out_is_open(const zk_ws *ws)
{
    if (ws->error) return ws->error;
    return ws->is_close_sent || ws->is_close_received ? ZK_E_CLOSED : 0;
}

#endif
