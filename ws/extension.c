/*
 * Offers and answers: see extension.h. What is not exactly as RFC 7692 has it (an unknown
 * parameter, one that stands twice, a value that is none) makes an offer one of an extension that
 * we do not know, and an answer a failure.
 */
#include "ws/extension.h"

#include <stdio.h>
#include <string.h>

#include "http/exchange.h"

enum { BITS_MAX = 15, BITS_MIN = 8, DEFLATE_BITS_MIN = 9 };

/* The parameters of one offer or answer. bits: 0: absent; 1: without a value. */
typedef struct params {
    bool server_fresh, client_fresh; /* no_context_takeover */
    uint8_t server_bits, client_bits;
} params;

static zk_str trim(zk_str s)
{
    while (s.size && (s.data[0] == ' ' || s.data[0] == '\t'))
        s.data++, s.size--;
    while (s.size && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

/* Cuts the first part off, up to the separator. */
static zk_str cut(zk_str *rest, char separator)
{
    const char *at = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    zk_str part = {rest->data, at ? (size_t)(at - rest->data) : rest->size};
    rest->data += part.size + (at ? 1 : 0);
    rest->size -= part.size + (at ? 1 : 0);
    return trim(part);
}

/* A number from 8 to 15, in quotes or without. returns 0: it is none. */
static uint8_t bits_parse(zk_str s)
{
    if (s.size >= 2 && s.data[0] == '"' && s.data[s.size - 1] == '"') {
        s.data++;
        s.size -= 2;
    }
    if (s.size == 1 && (s.data[0] == '8' || s.data[0] == '9')) return (uint8_t)(s.data[0] - '0');
    bool is_two = s.size == 2 && s.data[0] == '1' && s.data[1] >= '0' && s.data[1] <= '5';
    return is_two ? (uint8_t)(10 + s.data[1] - '0') : 0;
}

#define IS(name, text) zk__name_equal((name), (text), sizeof(text) - 1)

static bool param_take(params *p, zk_str name, zk_str value, bool has_value)
{
    if (IS(name, "server_no_context_takeover")) {
        if (has_value || p->server_fresh) return false;
        p->server_fresh = true;
    } else if (IS(name, "client_no_context_takeover")) {
        if (has_value || p->client_fresh) return false;
        p->client_fresh = true;
    } else if (IS(name, "server_max_window_bits")) {
        if (!has_value || p->server_bits) return false;
        p->server_bits = bits_parse(value);
        return p->server_bits;
    } else if (IS(name, "client_max_window_bits")) {
        if (p->client_bits) return false;
        p->client_bits = has_value ? bits_parse(value) : 1;
        return p->client_bits;
    } else {
        return false;
    }
    return true;
}

static bool params_parse(zk_str text, params *ret)
{
    params p = {0};
    if (!IS(cut(&text, ';'), "permessage-deflate")) return false;
    bool is_more = text.size > 0 || text.data[-1] == ';';
    while (is_more) {
        is_more = text.size && memchr(text.data, ';', text.size);
        zk_str value = cut(&text, ';');
        bool has_value = value.size && memchr(value.data, '=', value.size);
        zk_str name = cut(&value, '=');
        if (!param_take(&p, name, value = trim(value), has_value)) return false;
    }
    *ret = p;
    return true;
}

static uint8_t own_bits(int bits)
{
    return bits < DEFLATE_BITS_MIN || bits > BITS_MAX ? BITS_MAX : (uint8_t)bits;
}

static uint8_t least(uint8_t a, uint8_t b) { return a < b ? a : b; }

static void say(char *text, const char *param)
{
    size_t size = strlen(text);
    snprintf(text + size, ZK__WS_EXTENSION_BYTES - size, "; %s", param);
}

static void say_bits(char *text, const char *param, uint8_t bits)
{
    size_t size = strlen(text);
    snprintf(text + size, ZK__WS_EXTENSION_BYTES - size, "; %s=%u", param, bits);
}

/* The name, and which contexts are not kept. */
static void say_contexts(char *text, bool keeps_server, bool keeps_client)
{
    snprintf(text, ZK__WS_EXTENSION_BYTES, "permessage-deflate");
    if (!keeps_server) say(text, "server_no_context_takeover");
    if (!keeps_client) say(text, "client_no_context_takeover");
}

static bool offer_take(const params *p, const zk_ws_deflate *own, zk__ws_agreed *ret, char *answer)
{
    /* zlib has no window of 256 bytes to compress with. */
    if (p->server_bits == BITS_MIN) return false;
    uint8_t server = own_bits(own->server_window_bits), client = own_bits(own->client_window_bits);
    zk__ws_agreed a = {
        .is_on = true,
        .keeps_out = own->keeps_server_context && !p->server_fresh,
        .keeps_in = own->keeps_client_context && !p->client_fresh,
        .out_bits = p->server_bits ? least(p->server_bits, server) : server,
        .in_bits = BITS_MAX,
    };
    say_contexts(answer, a.keeps_out, a.keeps_in);
    if (p->server_bits || a.out_bits < BITS_MAX) {
        say_bits(answer, "server_max_window_bits", a.out_bits);
    }
    /* Only who has named it knows it. */
    if (p->client_bits && (client < BITS_MAX || p->client_bits > 1)) {
        a.in_bits = p->client_bits > 1 ? least(p->client_bits, client) : client;
        say_bits(answer, "client_max_window_bits", a.in_bits);
    }
    *ret = a;
    return true;
}

bool zk__ws_offer_choose(zk_str offers, const zk_ws_deflate *own, zk__ws_agreed *ret_agreed,
                         char answer[ZK__WS_EXTENSION_BYTES])
{
    while (offers.size) {
        params p;
        zk_str offer = cut(&offers, ',');
        if (!offer.size || !params_parse(offer, &p)) continue;
        if (offer_take(&p, own, ret_agreed, answer)) return true;
    }
    return false;
}

void zk__ws_offer_write(const zk_ws_deflate *own, char offer[ZK__WS_EXTENSION_BYTES])
{
    say_contexts(offer, own->keeps_server_context, own->keeps_client_context);
    uint8_t server = own_bits(own->server_window_bits), client = own_bits(own->client_window_bits);
    if (server < BITS_MAX) say_bits(offer, "server_max_window_bits", server);
    if (client < BITS_MAX) {
        say_bits(offer, "client_max_window_bits", client);
    } else {
        say(offer, "client_max_window_bits");
    }
}

bool zk__ws_answer_take(zk_str answer, const zk_ws_deflate *own, zk__ws_agreed *ret_agreed)
{
    params p;
    uint8_t server = own_bits(own->server_window_bits), client = own_bits(own->client_window_bits);
    if (!params_parse(trim(answer), &p)) return false;
    if (!own->keeps_server_context && !p.server_fresh) return false;
    if (server < BITS_MAX && (!p.server_bits || p.server_bits > server)) return false;
    if (p.client_bits == 1 || p.client_bits == BITS_MIN) return false;
    *ret_agreed = (zk__ws_agreed){
        .is_on = true,
        .keeps_out = own->keeps_client_context && !p.client_fresh,
        .keeps_in = !p.server_fresh,
        .out_bits = p.client_bits ? least(p.client_bits, client) : client,
        .in_bits = p.server_bits ? p.server_bits : BITS_MAX,
    };
    return true;
}
