"""Search with OpenAI's own Python client: what was written for OpenAI works, with another address.

    pip install openai
    python examples/openai_embeddings.py MODEL QUESTION TEXT...

Needs a running Fleet (`fleet up`) with a model of embeddings, for instance after `fleet models pull all-minilm-l6-v2`.
FLEET_URL and FLEET_API_KEY name another server and its key. Prints the texts, those nearest to the question first.
"""

import math
import os
import sys

import openai


def main(model: str, question: str, texts: list[str]) -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    key = os.environ.get("FLEET_API_KEY") or "none needed"
    try:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
            made = client.embeddings.create(model=model, input=[question, *texts])
    except openai.APIStatusError as error:
        said = error.body["message"] if isinstance(error.body, dict) else error.message
        print(f"{error.code}: {said}", file=sys.stderr)
        return 2
    asked, *vectors = (item.embedding for item in made.data)
    nearness = [cosine(asked, vector) for vector in vectors]
    for near, text in sorted(zip(nearness, texts, strict=True), reverse=True):
        print(f"{near:.3f}  {text}")
    print(f"{made.usage.total_tokens} tokens", file=sys.stderr)
    return 0


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
