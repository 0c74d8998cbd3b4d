"""Outside services, one module per API; each call is one request, and each error is mapped to ours."""
