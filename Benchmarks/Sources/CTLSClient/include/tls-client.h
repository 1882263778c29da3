// The TLS of all clients that measure: TLS 1.3 with one cipher and one group, so that each server does the same work
// whatever it would have preferred, and a certificate that is verified.
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>

/// What clients of one server share.
struct tls_clients;

/// For servers with this certificate, a file; NULL if it cannot be used.
struct tls_clients *tls_clients_new(const char *certificate);

/// May be NULL.
void tls_clients_free(struct tls_clients *clients);

/// A client on a connected socket, which stays the caller's, before its handshake. `resumes`: with the newest session
/// that a server has given to one of `clients`; without, the handshake is a full one. NULL if there is no memory, or no
/// session.
SSL *tls_client_new(struct tls_clients *clients, int descriptor, bool resumes);

/// What OpenSSL complained of last.
const char *tls_complaint(void);
