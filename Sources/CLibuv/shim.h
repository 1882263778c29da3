// The installed libuv, as Swift sees it. Vendor-notes/libuv.md says which version was tested.
#include <uv.h>

// 1.44.2 is the version of Debian 12. No older one was ever tested (Vendor-notes/libuv.md).
#if UV_VERSION_HEX < 0x012c02
#error "CallbackServer needs libuv 1.44.2 or newer: see Vendor-notes/install.sh"
#endif

/// uv_loop_configure(3) is variadic, which Swift cannot call.
static inline int callbackserver_uv_measure_idle_time(uv_loop_t *loop) {
    return uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
}
