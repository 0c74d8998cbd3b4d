"""Outside services, one module a wire; each call is made once, and each error becomes one of ours."""
