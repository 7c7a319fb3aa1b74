"""Kubernetes objects, one component a concern."""
