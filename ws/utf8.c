/*
 * UTF-8 validation, by three means:
 *
 *   bytes      a state machine over what may come next; finds the first bad byte, at any split
 *   ASCII      64 bytes at a time, one test
 *   the rest   with SSSE3, 16 bytes at a time by table look-ups: the classes of two neighbouring
 *              bytes, and how many continuations their predecessors ask for, must agree (Keiser,
 *              Lemire: "Validating UTF-8 in less than one instruction per byte", 2020)
 *
 * The third begins at the start of a character and, as a character may be cut by its end, goes
 * back to the last start there, from where the bytes take over.
 */
#include "ws/utf8.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    START,
    ONE,   /* one continuation is wanted */
    TWO,   /* two */
    THREE, /* three */
    E0,    /* two, the first from A0: shorter forms exist below */
    ED,    /* two, the first up to 9F: surrogates are no characters */
    F0,    /* three, the first from 90 */
    F4,    /* three, the first up to 8F: U+10FFFF is the last */
    BAD,
};

enum { BLOCK = 64 };

static uint8_t first(uint8_t byte)
{
    if (byte < 0x80) return START;
    if (byte < 0xC2) return BAD;
    if (byte < 0xE0) return ONE;
    if (byte < 0xF0) return byte == 0xE0 ? E0 : byte == 0xED ? ED : TWO;
    if (byte < 0xF5) return byte == 0xF0 ? F0 : byte == 0xF4 ? F4 : THREE;
    return BAD;
}

static uint8_t next(uint8_t state, uint8_t byte)
{
    static const struct {
        uint8_t from, to, then;
    } rows[] = {
        [ONE] = {0x80, 0xBF, START}, [TWO] = {0x80, 0xBF, ONE}, [THREE] = {0x80, 0xBF, TWO},
        [E0] = {0xA0, 0xBF, ONE},    [ED] = {0x80, 0x9F, ONE},  [F0] = {0x90, 0xBF, TWO},
        [F4] = {0x80, 0x8F, TWO},
    };
    if (state == START) return first(byte);
    return byte >= rows[state].from && byte <= rows[state].to ? rows[state].then : BAD;
}

/* Byte by byte, but for runs of ASCII. returns the state behind them, or BAD. */
static uint8_t take_bytes(uint8_t state, const uint8_t *data, size_t size)
{
    size_t i = 0;
    while (i < size && state != BAD) {
        uint64_t word;
        if (state == START && size - i >= 8) {
            memcpy(&word, data + i, 8);
            if (!(word & 0x8080808080808080u)) {
                i += 8;
                continue;
            }
        }
        state = next(state, data[i++]);
    }
    return state;
}

#if defined(__x86_64__)

/* What is wrong about two neighbours; the tables say what each half of each allows. */
enum {
    TOO_SHORT = 1 << 0,
    TOO_LONG = 1 << 1,
    OVERLONG_3 = 1 << 2,
    TOO_LARGE = 1 << 3,
    SURROGATE = 1 << 4,
    OVERLONG_2 = 1 << 5,
    TOO_LARGE_1000 = 1 << 6,
    OVERLONG_4 = 1 << 6,
    TWO_CONTS = 1 << 7,
    ANY = TOO_SHORT | TOO_LONG | TWO_CONTS,
    HIGH = ANY | TOO_LARGE | TOO_LARGE_1000,
    SECOND = TOO_LONG | OVERLONG_2 | TWO_CONTS,
};

#define SSSE3 __attribute__((target("ssse3")))

typedef struct blocks {
    __m128i before, error;
} blocks;

static SSSE3 inline void take_16(blocks *b, __m128i in)
{
    const __m128i low = _mm_set1_epi8(0x0F);
    const __m128i first_high =
        _mm_setr_epi8(TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
                      TOO_LONG, (char)TWO_CONTS, (char)TWO_CONTS, (char)TWO_CONTS, (char)TWO_CONTS,
                      TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
                      TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4);
    const __m128i first_low =
        _mm_setr_epi8((char)(ANY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4), (char)(ANY | OVERLONG_2),
                      (char)ANY, (char)ANY, (char)(ANY | TOO_LARGE), (char)HIGH, (char)HIGH,
                      (char)HIGH, (char)HIGH, (char)HIGH, (char)HIGH, (char)HIGH, (char)HIGH,
                      (char)(HIGH | SURROGATE), (char)HIGH, (char)HIGH);
    const __m128i second_high = _mm_setr_epi8(
        TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
        (char)(SECOND | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4),
        (char)(SECOND | OVERLONG_3 | TOO_LARGE), (char)(SECOND | SURROGATE | TOO_LARGE),
        (char)(SECOND | SURROGATE | TOO_LARGE), TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT);
    __m128i one = _mm_alignr_epi8(in, b->before, 15);
    __m128i two = _mm_alignr_epi8(in, b->before, 14);
    __m128i three = _mm_alignr_epi8(in, b->before, 13);
    __m128i pair = _mm_and_si128(
        _mm_and_si128(_mm_shuffle_epi8(first_high, _mm_and_si128(_mm_srli_epi16(one, 4), low)),
                      _mm_shuffle_epi8(first_low, _mm_and_si128(one, low))),
        _mm_shuffle_epi8(second_high, _mm_and_si128(_mm_srli_epi16(in, 4), low)));
    /* The top bit is set where a third or fourth byte has to be: TWO_CONTS is right there. */
    __m128i wanted = _mm_or_si128(_mm_subs_epu8(two, _mm_set1_epi8(0xE0 - 0x80)),
                                  _mm_subs_epu8(three, _mm_set1_epi8(0xF0 - 0x80)));
    wanted = _mm_and_si128(wanted, _mm_set1_epi8((char)0x80));
    b->error = _mm_or_si128(b->error, _mm_xor_si128(wanted, pair));
    b->before = in;
}

/* Whole blocks, from the start of a character. returns how many bytes are right up to the last
 * start of a character; SIZE_MAX: there is a bad one. */
static SSSE3 size_t take_blocks(const uint8_t *data, size_t size)
{
    blocks b = {_mm_setzero_si128(), _mm_setzero_si128()};
    bool was_ascii = true;
    size_t at = 0;
    for (; size - at >= BLOCK; at += BLOCK) {
        __m128i in[4];
        for (int i = 0; i < 4; i++)
            in[i] = _mm_loadu_si128((const __m128i *)(const void *)(data + at + 16 * i));
        __m128i any = _mm_or_si128(_mm_or_si128(in[0], in[1]), _mm_or_si128(in[2], in[3]));
        bool is_ascii = !_mm_movemask_epi8(any);
        if (is_ascii && was_ascii) continue;
        if (was_ascii) b.before = _mm_setzero_si128();
        for (int i = 0; i < 4; i++)
            take_16(&b, in[i]);
        was_ascii = is_ascii;
        if (_mm_movemask_epi8(_mm_cmpeq_epi8(b.error, _mm_setzero_si128())) != 0xFFFF) {
            return SIZE_MAX;
        }
    }
    if (was_ascii) return at;
    /* What is cut off is at most three bytes long, and begins with its lead. */
    for (size_t back = 1; back <= 3 && back <= at; back++) {
        if (data[at - back] >= 0xC0) return at - back;
        if (data[at - back] < 0x80) break;
    }
    return at;
}

static bool has_blocks(void) { return __builtin_cpu_supports("ssse3"); }

#else

static bool has_blocks(void) { return false; }
static size_t take_blocks(const uint8_t *data, size_t size)
{
    (void)data, (void)size;
    return 0;
}

#endif

bool zk__utf8_take(zk__utf8 *state, const void *data, size_t size)
{
    const uint8_t *at = data;
    uint8_t s = *state;
    while (size && s != START && s != BAD) {
        s = next(s, *at++);
        size--;
    }
    if (size >= BLOCK && s == START && has_blocks()) {
        size_t n = take_blocks(at, size);
        if (n == SIZE_MAX) return false;
        at += n;
        size -= n;
    }
    *state = s = take_bytes(s, at, size);
    return s != BAD;
}
