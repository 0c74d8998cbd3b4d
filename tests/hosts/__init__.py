"""Several hosts on one machine: network namespaces with addresses of their own, cut off and impaired."""
