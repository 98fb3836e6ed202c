/*
 * Negotiating permessage-deflate: RFC 7692 section 7.1 in tables.
 */
#include "tests/test.h"

#include <string.h>

#include "ws/extension.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))
#define PMD "permessage-deflate"
#define FRESH "; server_no_context_takeover; client_no_context_takeover"

static const zk_ws_deflate plain = {0};
static const zk_ws_deflate keeping = {.keeps_server_context = true, .keeps_client_context = true};
static const zk_ws_deflate narrow = {
    .server_window_bits = 10,
    .client_window_bits = 11,
    .keeps_server_context = true,
    .keeps_client_context = true,
};

/* A client offers, a server answers; NULL: it declines. */
static const struct {
    const char *offer;
    const zk_ws_deflate *own;
    const char *answer;
    int out_bits, in_bits; /* of the server's */
} offers[] = {
    {PMD, &plain, PMD FRESH, 15, 15},
    {PMD, &keeping, PMD, 15, 15},
    {"Permessage-Deflate", &keeping, PMD, 15, 15},
    {PMD "; server_no_context_takeover", &keeping, PMD "; server_no_context_takeover", 15, 15},
    {PMD "; client_no_context_takeover", &keeping, PMD "; client_no_context_takeover", 15, 15},
    {PMD "; client_no_context_takeover; server_no_context_takeover", &keeping, PMD FRESH, 15, 15},
    {PMD "; server_max_window_bits=10", &keeping, PMD "; server_max_window_bits=10", 10, 15},
    {PMD "; server_max_window_bits=\"10\"", &keeping, PMD "; server_max_window_bits=10", 10, 15},
    {PMD "; server_max_window_bits=15", &keeping, PMD "; server_max_window_bits=15", 15, 15},
    {PMD "; server_max_window_bits=9", &keeping, PMD "; server_max_window_bits=9", 9, 15},
    {PMD "; server_max_window_bits=8", &keeping, NULL, 0, 0},
    {PMD "; client_max_window_bits", &keeping, PMD, 15, 15},
    {PMD "; client_max_window_bits=15", &keeping, PMD "; client_max_window_bits=15", 15, 15},
    {PMD "; client_max_window_bits=12", &keeping, PMD "; client_max_window_bits=12", 15, 12},
    {PMD "; client_max_window_bits=8", &keeping, PMD "; client_max_window_bits=8", 15, 8},
    {PMD, &narrow, PMD "; server_max_window_bits=10", 10, 15},
    {PMD "; client_max_window_bits", &narrow,
     PMD "; server_max_window_bits=10; client_max_window_bits=11", 10, 11},
    {PMD "; client_max_window_bits=10", &narrow,
     PMD "; server_max_window_bits=10; client_max_window_bits=10", 10, 10},
    {PMD "; server_max_window_bits=9", &narrow, PMD "; server_max_window_bits=9", 9, 15},
    {PMD "; server_max_window_bits=12", &narrow, PMD "; server_max_window_bits=10", 10, 15},
    {"  " PMD "  ;  client_max_window_bits  ", &keeping, PMD, 15, 15},
    {"x-other, " PMD, &keeping, PMD, 15, 15},
    {"x-other; a=b, " PMD "; x=1, " PMD, &keeping, PMD, 15, 15},
    {PMD "; server_max_window_bits=8, " PMD, &keeping, PMD, 15, 15},
    {PMD "; server_max_window_bits=12, " PMD, &keeping, PMD "; server_max_window_bits=12", 12, 15},
    {"", &keeping, NULL, 0, 0},
    {",", &keeping, NULL, 0, 0},
    {"x-other", &keeping, NULL, 0, 0},
    {"x-webkit-deflate-frame", &keeping, NULL, 0, 0},
    {PMD "2", &keeping, NULL, 0, 0},
    {PMD "; unknown", &keeping, NULL, 0, 0},
    {PMD ";", &keeping, NULL, 0, 0},
    {PMD "; ; client_max_window_bits", &keeping, NULL, 0, 0},
    {PMD "; server_no_context_takeover=1", &keeping, NULL, 0, 0},
    {PMD "; client_no_context_takeover=true", &keeping, NULL, 0, 0},
    {PMD "; server_no_context_takeover; server_no_context_takeover", &keeping, NULL, 0, 0},
    {PMD "; client_no_context_takeover; client_no_context_takeover", &keeping, NULL, 0, 0},
    {PMD "; server_max_window_bits", &keeping, NULL, 0, 0},
    {PMD "; server_max_window_bits=", &keeping, NULL, 0, 0},
    {PMD "; server_max_window_bits=7", &keeping, NULL, 0, 0},
    {PMD "; server_max_window_bits=16", &keeping, NULL, 0, 0},
    {PMD "; server_max_window_bits=010", &keeping, NULL, 0, 0},
    {PMD "; server_max_window_bits=1x", &keeping, NULL, 0, 0},
    {PMD "; server_max_window_bits=10; server_max_window_bits=10", &keeping, NULL, 0, 0},
    {PMD "; client_max_window_bits=7", &keeping, NULL, 0, 0},
    {PMD "; client_max_window_bits=16", &keeping, NULL, 0, 0},
    {PMD "; client_max_window_bits=", &keeping, NULL, 0, 0},
    {PMD "; client_max_window_bits; client_max_window_bits", &keeping, NULL, 0, 0},
};

ZK_TEST(ws_extension, offers)
{
    for (size_t i = 0; i < ROWS(offers); i++) {
        zk__ws_agreed agreed;
        char answer[ZK__WS_EXTENSION_BYTES] = "none";
        zk_str offer = {offers[i].offer, strlen(offers[i].offer)};
        bool is_taken = zk__ws_offer_choose(offer, offers[i].own, &agreed, answer);
        cr_assert_eq(is_taken, offers[i].answer != NULL, "%s", offers[i].offer);
        if (!is_taken) continue;
        cr_assert_str_eq(answer, offers[i].answer, "%s: %s", offers[i].offer, answer);
        cr_assert(agreed.out_bits == offers[i].out_bits && agreed.in_bits == offers[i].in_bits);
        cr_assert_eq(agreed.keeps_out, !strstr(answer, "server_no_context_takeover"));
        cr_assert_eq(agreed.keeps_in, !strstr(answer, "client_no_context_takeover"));
    }
}

ZK_TEST(ws_extension, what_a_client_offers)
{
    static const struct {
        const zk_ws_deflate *own;
        const char *offer;
    } rows[] = {
        {&plain, PMD FRESH "; client_max_window_bits"},
        {&keeping, PMD "; client_max_window_bits"},
        {&narrow, PMD "; server_max_window_bits=10; client_max_window_bits=11"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char offer[ZK__WS_EXTENSION_BYTES];
        zk__ws_offer_write(rows[i].own, offer);
        cr_assert_str_eq(offer, rows[i].offer, "%s", offer);
    }
}

/* A server answers that offer; 0: it must not like this. */
static const struct {
    const char *answer;
    const zk_ws_deflate *own;
    int out_bits, in_bits; /* of the client's */
} answers[] = {
    {PMD, &keeping, 15, 15},
    {PMD "; server_no_context_takeover", &keeping, 15, 15},
    {PMD "; client_no_context_takeover", &keeping, 15, 15},
    {PMD "; server_max_window_bits=8", &keeping, 15, 8},
    {PMD "; server_max_window_bits=12", &keeping, 15, 12},
    {PMD "; client_max_window_bits=9", &keeping, 9, 15},
    {PMD "; client_max_window_bits=15", &keeping, 15, 15},
    {PMD FRESH, &plain, 15, 15},
    {PMD "; server_no_context_takeover", &plain, 15, 15},
    {PMD "; server_max_window_bits=10", &narrow, 11, 10},
    {PMD "; server_max_window_bits=9; client_max_window_bits=10", &narrow, 10, 9},
    {PMD "; server_max_window_bits=10; client_max_window_bits=14", &narrow, 11, 10},
    {"", &keeping, 0, 0},
    {"x-other", &keeping, 0, 0},
    {PMD ", " PMD, &keeping, 0, 0},
    {PMD "; unknown", &keeping, 0, 0},
    {PMD, &plain, 0, 0},
    {PMD "; client_no_context_takeover", &plain, 0, 0},
    {PMD, &narrow, 0, 0},
    {PMD "; server_max_window_bits=11", &narrow, 0, 0},
    {PMD "; client_max_window_bits", &keeping, 0, 0},
    {PMD "; client_max_window_bits=8", &keeping, 0, 0},
    {PMD "; client_max_window_bits=16", &keeping, 0, 0},
    {PMD "; server_max_window_bits=16", &keeping, 0, 0},
    {PMD "; server_max_window_bits", &keeping, 0, 0},
    {PMD "; server_no_context_takeover; server_no_context_takeover", &keeping, 0, 0},
};

ZK_TEST(ws_extension, answers)
{
    for (size_t i = 0; i < ROWS(answers); i++) {
        zk__ws_agreed agreed;
        zk_str answer = {answers[i].answer, strlen(answers[i].answer)};
        bool is_taken = zk__ws_answer_take(answer, answers[i].own, &agreed);
        cr_assert_eq(is_taken, answers[i].out_bits != 0, "%s", answers[i].answer);
        if (!is_taken) continue;
        cr_assert(agreed.out_bits == answers[i].out_bits && agreed.in_bits == answers[i].in_bits,
                  "%s: %d, %d", answers[i].answer, agreed.out_bits, agreed.in_bits);
    }
}
