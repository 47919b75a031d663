"""Parts of a job: how it is split, how votes are counted, how outputs are joined. Pure.

Imports routing, documents, config, contract. Start with split/ and joins/.
"""
