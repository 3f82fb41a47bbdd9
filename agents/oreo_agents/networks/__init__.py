"""transformers models behind the two protocols of ``oreo_algos.models``: scores, values, packing, caches, folders."""
