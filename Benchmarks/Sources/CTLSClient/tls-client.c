#include "tls-client.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

struct tls_clients {
    SSL_CTX *context;
    // The newest.
    SSL_SESSION *session;
};

// A ticket has come. 1: the reference is kept.
static int did_get_session(SSL *ssl, SSL_SESSION *session) {
    struct tls_clients *clients = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    SSL_SESSION_free(clients->session);
    clients->session = session;
    return 1;
}

static bool configure(SSL_CTX *context, const char *certificate) {
    if (context == NULL) return false;
    // A part is sent as soon as the kernel takes it, and the next call goes on from there.
    SSL_CTX_set_mode(
        context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, did_get_session);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1
        && SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") == 1
        && SSL_CTX_set1_groups_list(context, "X25519") == 1
        && SSL_CTX_load_verify_file(context, certificate) == 1
        && X509_VERIFY_PARAM_set1_ip_asc(SSL_CTX_get0_param(context), "127.0.0.1") == 1;
}

struct tls_clients *tls_clients_new(const char *certificate) {
    struct tls_clients *clients = calloc(1, sizeof *clients);
    if (clients == NULL) abort();
    clients->context = SSL_CTX_new(TLS_client_method());
    if (!configure(clients->context, certificate)) {
        tls_clients_free(clients);
        return NULL;
    }
    SSL_CTX_set_app_data(clients->context, clients);
    return clients;
}

void tls_clients_free(struct tls_clients *clients) {
    if (clients == NULL) return;
    SSL_SESSION_free(clients->session);
    SSL_CTX_free(clients->context);
    free(clients);
}

// A copy, since a handshake of TLS 1.3 marks the session that it resumed as used up. For several at a time that resume
// the same one, servers are not so strict.
static bool resume(SSL *ssl, SSL_SESSION *session) {
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    bool is_set = copy != NULL && SSL_set_session(ssl, copy) == 1;
    SSL_SESSION_free(copy);
    return is_set;
}

SSL *tls_client_new(struct tls_clients *clients, int descriptor, bool resumes) {
    if (resumes && clients->session == NULL) return NULL;
    SSL *ssl = SSL_new(clients->context);
    if (ssl == NULL) return NULL;
    if (SSL_set_fd(ssl, descriptor) != 1 || (resumes && !resume(ssl, clients->session))) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

const char *tls_complaint(void) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "the other side is gone";
}
