"""The certificate authorities that deliveries trust."""

import ssl
from os.path import isdir, isfile


def make_tls_context(system: ssl.DefaultVerifyPaths | None = None) -> ssl.SSLContext:
    """Return a TLS context that trusts the system's authorities, and those in SSL_CERT_FILE in addition.

    OpenSSL lets that variable (like SSL_CERT_DIR) replace the system's store, which would cut off every public
    endpoint, so that store is loaded as well. `system` holds its paths; by default, those OpenSSL was built with.
    """
    context = ssl.create_default_context()
    store = system or ssl.get_default_verify_paths()
    if isfile(store.openssl_cafile):
        context.load_verify_locations(cafile=store.openssl_cafile)
    if isdir(store.openssl_capath):
        context.load_verify_locations(capath=store.openssl_capath)
    context.set_alpn_protocols(["http/1.1"])
    return context
