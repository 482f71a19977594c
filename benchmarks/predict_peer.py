"""What a user of transformers runs: `python -m benchmarks.predict_peer pipeline|adapter WORK TEXTS OUTPUT`."""

import csv
import sys
from pathlib import Path


def main() -> None:
    kind, work, texts, output = sys.argv[1], *map(Path, sys.argv[2:5])
    with texts.open(newline="", encoding="utf-8") as file:
        rows = [row["text"] for row in csv.DictReader(file)]
    labels = pipeline_labels(work / "merged", rows) if kind == "pipeline" else adapter_labels(work, rows)
    with output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["ID", "Label"], *enumerate(labels)])


def pipeline_labels(folder: Path, texts: list[str]) -> list[int]:
    """Runs the stock pipeline in fp32, 32 texts at once in the file's order. Its head is random: only time counts."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=4)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=32)
    answers = classify(texts, truncation=True, max_length=128)
    return [int(one["label"].removeprefix("LABEL_")) for one in answers]


def adapter_labels(work: Path, texts: list[str]) -> list[int]:
    """Runs transformers and peft as the two libraries' documentation shows it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work / "merged")
    base = AutoModelForSequenceClassification.from_pretrained(work / "merged", num_labels=4)
    model = PeftModel.from_pretrained(base, str(work / "adapter")).eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits.argmax(dim=1).tolist()


if __name__ == "__main__":
    main()
