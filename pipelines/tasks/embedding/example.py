"""The part of the program beside an exported graph that makes the answer of an embedding task."""

ANSWER = """def embedding(task, found, size_hw, scale_xy):
    vectors = found["embeddings"].tolist()
    return {"embedding": vectors[0]} if MODEL["model"]["tasks"][task]["of"] == "image" else {"embeddings": vectors}
"""
