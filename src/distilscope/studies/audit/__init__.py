"""The audit: each trap of the paper's released code is switched on alone and compared with the definition.

No code outside this package can switch a trap on.
"""
