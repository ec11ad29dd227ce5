"""Each trap of the paper's released code switched on alone, beside the definition. Nothing outside this package can
switch one on."""
