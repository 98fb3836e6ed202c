/*
 * The frame engine against tables: RFC 6455 sections 5, 7.4 and 8.1, in both roles, whole and in
 * pieces.
 */
#include "tests/ws/frames.h"

typedef struct frame_row {
    const char *name, *in, *out;
} frame_row;

enum { MESSAGE_MAX = 70000, FRAGMENTS_MAX = 8 };

static zk__ws_reader reader(bool is_client)
{
    return (zk__ws_reader){
        .message_bytes_max = MESSAGE_MAX,
        .fragments_max = FRAGMENTS_MAX,
        .is_client = is_client,
    };
}

static void row_check(const frame_row *row, bool is_client, bool allows_deflate, size_t step)
{
    bytes in = frames_of(row->in, !is_client);
    zk__ws_reader r = reader(is_client);
    r.allows_deflate = allows_deflate;
    char *out = read_all(&r, &in, step);
    const char *got = *out ? out + 1 : out;
    cr_assert(!strcmp(got, row->out), "%s (%s, %zu at a time): %.200s, not %.200s", row->name,
              is_client ? "client" : "server", step, got, row->out);
    free(out);
    free(in.data);
}

static void rows_check(const frame_row *rows, size_t count, bool allows_deflate)
{
    for (const frame_row *at = rows; at < rows + count; at++) {
        for (int is_client = 0; is_client < 2; is_client++) {
            row_check(at, is_client, allows_deflate, 0);
            row_check(at, is_client, allows_deflate, 1);
            row_check(at, is_client, allows_deflate, 3);
            row_check(at, is_client, allows_deflate, 1000);
        }
    }
}

/* Each length is read whichever of the three forms it has, and so are its neighbours. */
ZK_TEST(ws_frame, lengths)
{
    static const frame_row rows[] = {
        {"nothing", "T:", "T:"},
        {"one byte", "T:a", "T:a"},
        {"two", "B:ab", "B:ab"},
        {"124", "T*124", "T*124"},
        {"125, the last short one", "T*125", "T*125"},
        {"126, the first of 16 bits", "T*126", "T*126"},
        {"127", "T*127", "T*127"},
        {"128", "B*128", "B*128"},
        {"255", "T*255", "T*255"},
        {"256", "T*256", "T*256"},
        {"32767", "T*32767", "T*32767"},
        {"32768", "B*32768", "B*32768"},
        {"65534", "B*65534", "B*65534"},
        {"65535, the last of 16 bits", "T*65535", "T*65535"},
        {"65536, the first of 64 bits", "T*65536", "T*65536"},
        {"65537", "B*65537", "B*65537"},
        {"as much as is allowed", "B*70000", "B*70000"},
        {"one more", "B*70001", "!1009"},
        {"two messages", "T:one T:two", "T:one T:two"},
        {"an empty one behind one", "T:one T:", "T:one T:"},
        {"one of each kind", "T:a B:b T*126 B*65536", "T:a B:b T*126 B*65536"},
    };
    rows_check(rows, ROWS(rows), false);
}

/* A length that is written longer than it need be is refused (RFC 6455 section 5.2). */
ZK_TEST(ws_frame, lengths_that_are_too_long)
{
    static const frame_row server[] = {
        {"0 in 16 bits", "=82fe000000000000", "!1002"},
        {"125 in 16 bits", "=82fe007d00000000", "!1002"},
        {"0 in 64 bits", "=82ff000000000000000000000000", "!1002"},
        {"126 in 64 bits", "=82ff000000000000007e00000000", "!1002"},
        {"65535 in 64 bits", "=82ff000000000000ffff00000000", "!1002"},
        {"the highest bit", "=82ff800000000000000000000000", "!1002"},
        {"all bits", "=82ffffffffffffffffff00000000", "!1002"},
        {"2^63-1", "=82ff7fffffffffffffff00000000", "!1009"},
        {"4 GiB", "=82ff000000010000000000000000", "!1009"},
        {"2^31-1", "=82ff000000007fffffff00000000", "!1009"},
    };
    static const frame_row client[] = {
        {"0 in 16 bits", "=827e0000", "!1002"},
        {"125 in 16 bits", "=827e007d", "!1002"},
        {"1 in 64 bits", "=827f0000000000000001", "!1002"},
        {"65535 in 64 bits", "=827f000000000000ffff", "!1002"},
        {"the highest bit", "=827f8000000000000000", "!1002"},
        {"2^63-1", "=827f7fffffffffffffff", "!1009"},
    };
    for (size_t i = 0; i < ROWS(server); i++) {
        row_check(&server[i], false, false, 0);
        row_check(&server[i], false, false, 1);
    }
    for (size_t i = 0; i < ROWS(client); i++) {
        row_check(&client[i], true, false, 0);
        row_check(&client[i], true, false, 1);
    }
}

/* Messages come in fragments, with control frames between them, never with others (section 5.4). */
ZK_TEST(ws_frame, fragments)
{
    static const frame_row rows[] = {
        {"two", "t:he C:llo", "T:hello"},
        {"three", "t:a c:b C:c", "T:abc"},
        {"binary", "b:a c:b C:c", "B:abc"},
        {"an empty first", "t: C:a", "T:a"},
        {"an empty last", "t:a C:", "T:a"},
        {"an empty one in the middle", "t:a c: C:b", "T:ab"},
        {"only empty ones", "t: c: c: C:", "T:"},
        {"then another", "t:a C:b T:c", "T:ab T:c"},
        {"as many as are allowed", "t:a c:b c:c c:d c:e c:f c:g C:h", "T:abcdefgh"},
        {"one more", "t:a c:b c:c c:d c:e c:f c:g c:h C:i", "!1008"},
        {"empty ones count, too", "t: c: c: c: c: c: c: c: C:", "!1008"},
        {"the count begins anew", "t: c: c: C: t: c: c: c: c: C:", "T: T:"},
        {"too large together", "b*65536 C*65536", "!1009"},
        {"as large as is allowed together", "b*65536 C*4464", "B*70000"},
        {"a ping between", "t:a P:p C:b", "P:p T:ab"},
        {"a pong between", "t:a O:p C:b", "O:p T:ab"},
        {"both between each", "t:a P:1 O:2 c:b P:3 C:c", "P:1 O:2 P:3 T:abc"},
        {"a close between", "t:a X:1000", "X:1000"},
        {"an empty ping in an empty message", "t: P: C:", "P: T:"},
        {"nothing to continue", "C:a", "!1002"},
        {"nothing to continue, without FIN", "c:a", "!1002"},
        {"nothing any more", "t:a C:b C:c", "T:ab !1002"},
        {"nothing after a whole one", "T:a C:b", "T:a !1002"},
        {"a text in a text", "t:a T:b", "!1002"},
        {"a text begun in a text", "t:a t:b", "!1002"},
        {"a binary in a text", "t:a B:b", "!1002"},
        {"a text in a binary", "b:a c:b T:c", "!1002"},
    };
    rows_check(rows, ROWS(rows), false);
}

ZK_TEST(ws_frame, control_frames)
{
    static const frame_row rows[] = {
        {"a ping", "P:", "P:"},
        {"a ping with a payload", "P:hello", "P:hello"},
        {"the largest", "P*125", "P*125"},
        {"a pong", "O:", "O:"},
        {"one that nobody asked for", "O:hello O*125", "O:hello O*125"},
        {"many", "P:a P:b O:c P:d", "P:a P:b O:c P:d"},
        {"a ping that is too large", "P*126", "!1002"},
        {"a pong that is", "O*126", "!1002"},
        {"a close that is", "X*126", "!1002"},
        {"far too large", "P*65536", "!1002"},
        {"a ping in fragments", "=0980 C:a", "!1002"},
        {"a pong in fragments", "=0a80 C:a", "!1002"},
        {"a close in fragments", "=0880 C:a", "!1002"},
    };
    rows_check(rows, ROWS(rows), false);
}

/* Each first byte that there is, as far as it is not one of a frame that there is. */
ZK_TEST(ws_frame, reserved_bits_and_opcodes)
{
    for (unsigned first = 0; first < 256; first++) {
        for (int deflate = 0; deflate < 2; deflate++) {
            unsigned opcode = first & 15, rsv = first >> 4 & 7;
            bool is_data = opcode == 1 || opcode == 2;
            bool is_control = opcode >= 8 && opcode <= 10 && first & 0x80;
            bool is_right = (!rsv || (rsv == 4 && deflate && is_data)) && (is_data || is_control);
            bytes in = {0};
            frame_add(&in, (uint8_t)first, "", 0, true);
            zk__ws_reader r = reader(false);
            r.allows_deflate = deflate;
            char *out = read_all(&r, &in, 1);
            cr_assert_eq(!strcmp(out, " !1002"), !is_right, "%02x: %s", first, out);
            free(out);
            free(in.data);
        }
    }
}

/* What one bit refuses is refused with the first byte, and the mask with the second. */
ZK_TEST(ws_frame, refuses_at_the_first_byte_that_shows_it)
{
    static const struct {
        const char *name, *bytes;
        size_t size;
        bool is_client;
    } rows[] = {
        {"a reserved bit", "\x91", 1, false},
        {"another", "\xA1", 1, false},
        {"RSV1", "\xC1", 1, false},
        {"an opcode", "\x83", 1, false},
        {"the last one", "\x8F", 1, true},
        {"a fragment of a ping", "\x09", 1, true},
        {"nothing to continue", "\x80", 1, true},
        {"no mask", "\x81\x05", 2, false},
        {"a mask", "\x81\x85", 2, true},
        {"a long ping", "\x89\xFE", 2, false},
        {"a ping without a mask", "\x89\x00", 2, false},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char data[4];
        zk__ws_event ev;
        zk__ws_reader r = reader(rows[i].is_client);
        memcpy(data, rows[i].bytes, rows[i].size);
        for (size_t size = 0; size < rows[i].size; size++) {
            cr_assert_eq(zk__ws_take(&r, data, size, &ev), 0);
            cr_assert_eq(ev.kind, ZK__WS_MORE, "%s", rows[i].name);
        }
        zk__ws_take(&r, data, rows[i].size, &ev);
        cr_assert(ev.kind == ZK__WS_REFUSED && ev.code == 1002 && ev.reason, "%s", rows[i].name);
    }
}

ZK_TEST(ws_frame, closes)
{
    static const frame_row rows[] = {
        {"without a code", "X:", "X:"},
        {"with one", "X:1000", "X:1000"},
        {"with a reason", "X:1000,bye", "X:1000,bye"},
        {"a reason of another alphabet", "X:1001,пока", "X:1001,пока"},
        {"one byte", "=888137fa213d34", "!1002"},
        {"a reason that is no text", "X:1000,\xff", "!1007"},
        {"one that is cut", "X:1000,\xe2\x82", "!1007"},
        {"a surrogate", "X:1000,\xed\xa0\x80", "!1007"},
        {"the longest reason",
         "X:1000,"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
         "X:1000,"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"},
    };
    /* The single byte is of a client's frame. */
    row_check(&rows[4], false, false, 0);
    for (size_t i = 0; i < ROWS(rows); i++) {
        if (i != 4) rows_check(&rows[i], 1, false);
    }
}

/* Every code, by what RFC 6455 section 7.4 and IANA's registry say of it. */
ZK_TEST(ws_frame, close_codes)
{
    static const struct {
        unsigned from, to;
        bool is_valid;
    } ranges[] = {
        {0, 0, false},       {1, 999, false},     {1000, 1000, true},  {1001, 1001, true},
        {1002, 1002, true},  {1003, 1003, true},  {1004, 1004, false}, {1005, 1005, false},
        {1006, 1006, false}, {1007, 1007, true},  {1008, 1008, true},  {1009, 1009, true},
        {1010, 1010, true},  {1011, 1011, true},  {1012, 1012, true},  {1013, 1013, true},
        {1014, 1014, true},  {1015, 1015, false}, {1016, 1099, false}, {1100, 1999, false},
        {2000, 2999, false}, {3000, 3000, true},  {3001, 3999, true},  {4000, 4998, true},
        {4999, 4999, true},  {5000, 5000, false}, {5001, 9999, false}, {10000, 65535, false},
    };
    unsigned next = 0;
    for (size_t i = 0; i < ROWS(ranges); i++) {
        cr_assert_eq(ranges[i].from, next);
        for (unsigned code = ranges[i].from; code <= ranges[i].to; code++) {
            char in[16], out[16];
            snprintf(in, sizeof in, "X:%u", code);
            snprintf(out, sizeof out, "X:%u", code);
            const frame_row row = {in, in, ranges[i].is_valid ? out : "!1002"};
            cr_assert_eq(zk__ws_code_is_valid(code), ranges[i].is_valid, "%u", code);
            if (code % 97 == 0 || ranges[i].to - ranges[i].from < 2)
                row_check(&row, false, false, 1);
        }
        next = ranges[i].to + 1;
    }
    cr_assert_eq(next, 65536u);
}

/* Texts are checked where they are, also across fragments, and only they (section 8.1). */
ZK_TEST(ws_frame, texts_and_their_fragments)
{
    static const frame_row rows[] = {
        {"of another alphabet", "T:κόσμε", "T:κόσμε"},
        {"cut in a character of two bytes", "t:\xce C:\xba", "T:κ"},
        {"of three, behind the first", "t:\xe2 C:\x82\xac", "T:€"},
        {"of three, behind the second", "t:\xe2\x82 C:\xac", "T:€"},
        {"of four, in each", "t:\xf0 c:\x9f c:\x98 C:\x80", "T:😀"},
        {"with an empty one between", "t:\xe2 c: C:\x82\xac", "T:€"},
        {"with a ping between", "t:\xe2\x82 P:\xff C:\xac", "P:\xff T:€"},
        {"no text", "T:\xff", "!1007"},
        {"a lone continuation", "T:\x80", "!1007"},
        {"a lone one in the second fragment", "t:a C:\x80", "!1007"},
        {"cut by the end", "T:\xe2\x82", "!1007"},
        {"cut by the end of the last fragment", "t:a C:\xe2\x82", "!1007"},
        {"cut, then an empty end", "t:\xe2\x82 C:", "!1007"},
        {"cut, then something else", "t:\xe2\x82 c:a C:b", "!1007"},
        {"binary is no text", "B:\xff\xfe", "B:\xff\xfe"},
        {"nor are its fragments", "b:\xe2 C:\xff", "B:\xe2\xff"},
        {"nor is a ping", "P:\xff", "P:\xff"},
        {"the next message begins anew", "B:\xe2 T:a", "B:\xe2 T:a"},
        {"a surrogate", "T:\xed\xa0\x80", "!1007"},
        {"beyond the last character", "T:\xf4\x90\x80\x80", "!1007"},
        {"the last character", "T:\xf4\x8f\xbf\xbf", "T:\xf4\x8f\xbf\xbf"},
    };
    rows_check(rows, ROWS(rows), false);
}

/* A text that goes wrong is refused without waiting for the rest of its frame. */
ZK_TEST(ws_frame, a_bad_text_is_refused_before_its_end)
{
    zk__ws_reader r = reader(true);
    zk__ws_event ev;
    char head[] = "\x81\x7e\x10\x00 good so far \xf4\x90";
    size_t n = zk__ws_take(&r, head, sizeof head - 3, &ev);
    cr_assert(n == sizeof head - 3 && ev.kind == ZK__WS_DATA && !ev.is_last);
    zk__ws_take(&r, head + n, 1, &ev);
    cr_assert_eq(ev.kind, ZK__WS_DATA);
    zk__ws_take(&r, head + n + 1, 1, &ev);
    cr_assert(ev.kind == ZK__WS_REFUSED && ev.code == 1007);
}

/* With permessage-deflate RSV1 marks a message on its first frame (RFC 7692 section 6). */
ZK_TEST(ws_frame, compressed_messages)
{
    static const frame_row rows[] = {
        {"a whole one", "Z:a", "Z:a"},
        {"in fragments", "z:a c:b C:c", "Z:abc"},
        {"one that is not, beside it", "Z:a T:b", "Z:a T:b"},
        {"what is no text before it is inflated", "Z:\xff", "Z:\xff"},
        {"the bit on a continuation", "z:a =c080", "!1002"},
        {"on the last one", "t:a =c080", "!1002"},
        {"on a ping", "=c980", "!1002"},
        {"on a pong", "=ca80", "!1002"},
        {"on a close", "=c880", "!1002"},
        {"beside another", "=e180", "!1002"},
    };
    rows_check(rows, ROWS(rows), true);
}

/* Heads are written as they are read. */
ZK_TEST(ws_frame, heads_are_written_in_the_shortest_way)
{
    static const struct {
        uint64_t size;
        const char *bytes;
        size_t head;
    } rows[] = {
        {0, "\x82\x00", 2},
        {125, "\x82\x7d", 2},
        {126, "\x82\x7e\x00\x7e", 4},
        {65535, "\x82\x7e\xff\xff", 4},
        {65536, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10},
        {(uint64_t)1 << 40, "\x82\x7f\x00\x00\x01\x00\x00\x00\x00\x00", 10},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char head[ZK__WS_HEAD_BYTES_MAX];
        const uint8_t key[4] = {1, 2, 3, 4};
        cr_assert_eq(zk__ws_head(head, 0x82, rows[i].size, NULL), rows[i].head);
        cr_assert(!memcmp(head, rows[i].bytes, rows[i].head), "%zu", i);
        cr_assert_eq(zk__ws_head(head, 0x82, rows[i].size, key), rows[i].head + 4);
        cr_assert((uint8_t)head[1] == ((uint8_t)rows[i].bytes[1] | 0x80));
        cr_assert(!memcmp(head + rows[i].head, key, 4));
    }
}
