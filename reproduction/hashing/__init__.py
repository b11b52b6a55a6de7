"""Short codes of the paper's related work: how they are learnt, and how galleries are ranked.

    cnnh    CNNH (Xia et al. 2014): codes out of labels, which a network then learns
    dnnh    DNNH (Lai et al. 2015): divide-and-encode, triplet ranking
    itq     PCA and ITQ (Gong and Lazebnik 2011)
    pca     neural codes, compressed (Babenko et al. 2014): real numbers, compared by cosine
    objectives  what a network learns for CNNH and DNNH, in the place of classes
    codes   packed bits, and the order by Hamming distance

Arrays and torch modules only. Codes are -1 and 1 where they are learnt, bits 0 and 1 (1 for what
is above 0) where they are kept.
"""
