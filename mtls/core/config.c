typedef int mtls_placeholder;
