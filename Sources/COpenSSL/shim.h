// The installed OpenSSL, as Swift sees it. Vendor-notes/openssl.md says which version was tested.
//
// Functions stand for macros, which Swift cannot call, and hold no decision.
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

// 3.0 is the version of Debian 12. No older one was ever tested (Vendor-notes/openssl.md).
#if OPENSSL_VERSION_MAJOR < 3
#error "CallbackTLS needs OpenSSL 3.0 or newer: see Vendor-notes/install.sh"
#endif

static inline void callbackserver_BIO_set_retry_read(BIO *bio) {
    BIO_clear_retry_flags(bio);
    BIO_set_retry_read(bio);
}

static inline void callbackserver_BIO_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }

static inline void callbackserver_SSL_CTX_set_mode(SSL_CTX *context, long mode) { SSL_CTX_set_mode(context, mode); }

static inline void callbackserver_SSL_CTX_set_read_ahead(SSL_CTX *context) { SSL_CTX_set_read_ahead(context, 1); }

static inline int callbackserver_SSL_CTX_set_min_proto_version(SSL_CTX *context, int version) {
    return (int)SSL_CTX_set_min_proto_version(context, version);
}

static inline int callbackserver_SSL_CTX_set_max_proto_version(SSL_CTX *context, int version) {
    return (int)SSL_CTX_set_max_proto_version(context, version);
}

static inline void callbackserver_SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode) {
    SSL_CTX_set_session_cache_mode(context, mode);
}

static inline int callbackserver_SSL_CTX_add1_chain_cert(SSL_CTX *context, X509 *certificate) {
    return (int)SSL_CTX_add1_chain_cert(context, certificate);
}

static inline void callbackserver_SSL_CTX_set_servername_callback(
    SSL_CTX *context, int (*callback)(SSL *, int *, void *)) {
    SSL_CTX_set_tlsext_servername_callback(context, callback);
}

static inline void callbackserver_SSL_CTX_set_ticket_callback(
    SSL_CTX *context,
    int (*callback)(SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int)) {
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, callback);
}

static inline int callbackserver_SSL_set_host_name(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}

static inline int callbackserver_sk_X509_num(const STACK_OF(X509) *stack) { return sk_X509_num(stack); }

static inline X509 *callbackserver_sk_X509_value(const STACK_OF(X509) *stack, int index) {
    return sk_X509_value(stack, index);
}

static inline int callbackserver_ERR_GET_LIB(unsigned long error) { return ERR_GET_LIB(error); }

static inline int callbackserver_ERR_GET_REASON(unsigned long error) { return ERR_GET_REASON(error); }

static inline unsigned long callbackserver_XN_FLAG_RFC2253(void) { return XN_FLAG_RFC2253; }

static inline uint64_t callbackserver_SSL_OP_NO_TICKET(void) { return SSL_OP_NO_TICKET; }

static inline uint64_t callbackserver_options(void) {
    return SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
        SSL_OP_PRIORITIZE_CHACHA;
}

/// What a session ticket is made or read with: AES-256 in CBC mode, authenticated with SHA-256 (RFC 5077, section 4).
static inline int callbackserver_init_ticket(
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, const unsigned char *aes, const unsigned char *hmac, size_t hmac_size,
    const unsigned char *iv, int encrypts) {
    OSSL_PARAM parameters[3];
    parameters[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)hmac, hmac_size);
    parameters[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0);
    parameters[2] = OSSL_PARAM_construct_end();
    if (EVP_CipherInit_ex2(cipher, EVP_aes_256_cbc(), aes, iv, encrypts, NULL) != 1) return 0;
    return EVP_MAC_CTX_set_params(mac, parameters);
}
