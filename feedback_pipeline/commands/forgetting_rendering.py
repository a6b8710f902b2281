"""The receipt of a forgetting, in words."""

from collections.abc import Sequence

from feedback_pipeline.commands.rendering import Document, console
from feedback_pipeline.storage.forget_receipts import BEGUN_AGAIN


def print_receipts(receipts: Sequence[Document]) -> None:
    """What was deleted, what was learned again, and the hash by which the receipt is found."""
    out = console()
    if not receipts:
        out.print("Nothing is left to be forgotten.")
    for receipt in receipts:
        counts = dict(receipt["counts"])
        named, again = counts.pop("agent_learning_patterns", 0), counts.pop(BEGUN_AGAIN, 0)
        rows = ", ".join(f"{table} {n:,}" for table, n in counts.items()) or "none"
        out.print(
            f"[bold]Forgotten: one {receipt['kind']}.[/] Receipt {receipt['receipt_id']}, {receipt['times']['done'][:19]} UTC"
        )
        out.print(f"  rows deleted: {rows}")
        if again:
            out.print(f"  begun again, because more rows had come: {again:,} time{'s' if again > 1 else ''}")
        out.print(f"  patterns whose evidence named it: {named:,}")
        out.print(f"  learned again: {_learned(receipt)}")
        out.print(f"  predictor: {_predictor(receipt)}")
        out.print(f"  SHA-256 of {receipt['salt']} and the id: {receipt['id_sha256']}")
        out.print("  Backups and the server's write-ahead log still hold what they held: see docs/reference.md.")


def _learned(receipt: Document) -> str:
    run = receipt["learning_run_id"]
    return f"learning run {run}, Dagster run {receipt['dagster_run_id']}" if run else "nothing had been learned"


def _predictor(receipt: Document) -> str:
    removed = len(receipt["model_versions"])
    if not removed:
        return "there was no model"
    champion = receipt["champion"]
    heir = f"version {champion} took over" if champion else "too little is left to train another"
    return f"files of {removed} version{'s' if removed > 1 else ''} deleted; {heir}"
