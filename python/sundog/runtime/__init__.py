"""What runs inside an instance: the template, the instance's loop, the context, and the calls to the host.

Imports nothing of the SDK.
"""
