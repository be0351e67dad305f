"""The load balancer: the one place where locks and seats meet."""
