"""`seqlib serve` under load on loopback: 16 clients for 60 s, every answer compared with the command line's.

    python benchmarks/serve.py --runs /tmp/served
    python benchmarks/serve.py --runs /tmp/served --tasks classify --hostile
    python benchmarks/serve.py --runs /tmp/served --server="--max_batch 1"

Small models of the embedded problems are trained into --runs where they are not there yet. A client sends one text
after another over one connection. Latencies are those after --warm seconds, in which programs are compiled; answers are
compared from the beginning. With --hostile malformed, huge, slow and abandoned requests come all the time, too.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
SEQLIB = [sys.executable, "-m", "seqlib"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PROBLEMS = {
    "translate": ("translate_bulletin_ende", "transformer_bulletin", 400),
    "generate": ("lm_pydoc", "gpt2_tiny", 200),
    "classify": ("classify_pydoc", "text_cnn_base", 300),
}
OPTIONS = {"max_tokens": 40, "temperature": 0.8, "top_k": 40, "seed": 1}
JSON = {"Content-Type": "application/json"}


def trained(runs: Path, task: str, smoke: bool) -> Path:
    """The run of a task, made where it is missing."""
    folder = runs / task
    problem, preset, steps = PROBLEMS[task]
    steps = 20 if smoke else steps
    if not (folder / "model").exists():
        command = [*SEQLIB, "train", "--problem", problem, "--hparams_set", preset, f"--output_dir={folder}"]
        command += [f"--train_steps={steps}", f"--eval_every={steps}", "--no_report", "--no_baselines"]
        subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def expected(folder: Path, task: str, count: int) -> dict[str, Any]:
    """Texts, and what the command line answers to each."""
    from seqlib.problems import load

    longest = 60 if task == "generate" else 150  # characters; the language model reads 64 tokens
    sources = (" ".join(record.source.split())[:longest].strip() for record in load(PROBLEMS[task][0], "dev"))
    texts = list(dict.fromkeys(text for text in sources if text))[:count]
    lines = "".join(text + "\n" for text in texts)
    command = [*SEQLIB, task, str(folder), "--json", "--device", "cpu"]
    if task == "generate":
        (folder / "prompts.txt").write_text(lines, encoding="utf-8")
        command += ["--prompts", str(folder / "prompts.txt"), *(f"--{name}={v}" for name, v in OPTIONS.items())]
    done = subprocess.run(command, input=lines, check=True, env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(texts, [answer["text"] if task == "translate" else answer for answer in answers], strict=True))


class Load:
    """Clients of one server, and what they count."""

    def __init__(self, url: str, task: str, answers: dict[str, Any], warm: float) -> None:
        self.address, self.task, self.answers = (urlsplit(url).hostname, urlsplit(url).port), task, answers
        self.began, self.warm, self.ended = time.perf_counter(), warm, False
        self.seconds: list[float] = []
        self.asked = self.wrong = self.lost = self.hostile = 0
        self.lock = threading.Lock()

    def body(self, text: str) -> bytes:
        asked: dict[str, Any] = {"text": text}
        if self.task == "translate":
            asked = {"q": text, "source": "en", "target": "de"}
        elif self.task == "generate":
            asked = {"prompt": text, **OPTIONS}
        return json.dumps(asked).encode()

    def client(self, number: int) -> None:
        """One text after another until the end."""
        draw, texts = random.Random(number), list(self.answers)
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        while not self.ended:
            text = draw.choice(texts)
            start = time.perf_counter()
            try:
                connection.request("POST", f"/{self.task}", self.body(text), JSON)
                answer = connection.getresponse()
                found = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                found = None
            end = time.perf_counter()
            right = found is not None and self.answers[text] in (found.get("translatedText"), *found.get("outputs", ()))
            with self.lock:
                self.asked += 1
                self.lost += found is None
                self.wrong += found is not None and not right
                if start - self.began > self.warm:
                    self.seconds.append(end - start)
        connection.close()

    def enemy(self, number: int) -> None:
        """Requests that no server should be asked, in turn."""
        draw, path = (
            random.Random(number),
            f"POST /{self.task} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n",
        )
        whole = self.body(next(iter(self.answers)))
        kinds = (
            lambda: (f"{path}content-length: 9\r\n\r\n".encode() + b'{"text": ', True),  # malformed
            lambda: (f"{path}content-length: 999999999\r\n\r\n".encode() + b"x" * 100_000, True),  # huge
            lambda: (f"{path}content-length: 500\r\n\r\n".encode() + b'{"text"', True),  # slow: cut by the server
            lambda: (f"{path}content-length: {len(whole)}\r\n\r\n".encode() + whole, False),  # gone before the answer
            lambda: (draw.randbytes(200), True),
            lambda: (b"", True),  # a connection and nothing more
        )
        while not self.ended:
            sent, waits = kinds[self.hostile % len(kinds)]()
            try:
                with socket.create_connection(self.address, timeout=5) as connection:
                    connection.sendall(sent)
                    if waits:
                        connection.recv(1000)
            except OSError:
                pass  # cut, as it should be
            with self.lock:
                self.hostile += 1
            time.sleep(0.02)


def measure(task: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Serve a model under load; the figures."""
    answers = expected(folder, task, 20 if args.smoke else 400)
    command = [*SEQLIB, "serve", str(folder), "--port", "0", "--device", "cpu", "--limits.seconds", "2"]
    with open(folder / "serve.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [*command, *args.server.split()], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    try:
        load = Load(url, task, answers, args.warm)
        threads = [threading.Thread(target=load.client, args=(n,)) for n in range(args.clients)]
        threads += [threading.Thread(target=load.enemy, args=(n,)) for n in range(4 * args.hostile)]
        for thread in threads:
            thread.start()
        time.sleep(args.warm + args.seconds)
        load.ended = True
        for thread in threads:
            thread.join()
        connection = http.client.HTTPConnection(*load.address)
        connection.request("GET", "/health")
        health = json.load(connection.getresponse())
        connection.close()
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    ordered = sorted(load.seconds) or [float("nan")]

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    return {
        "task": task,
        "server": args.server,
        "clients": args.clients,
        "hostile": load.hostile,
        "seconds": args.seconds,
        "requests": load.asked,
        "lost": load.lost,
        "wrong": load.wrong,
        "a_second": round(len(load.seconds) / args.seconds, 1),
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "max_ms": at(1),
        "texts_a_batch": round(health["texts"] / max(1, health["batches"]), 2),
        "exit_code": code,
    }


def main(argv: list[str] | None = None) -> int:
    """Measure each task, print, write; 1 when a request was lost or answered otherwise than by the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trained models")
    parser.add_argument("--tasks", default=",".join(PROBLEMS))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm", type=float, default=10.0)
    parser.add_argument("--server", default="", help="further flags of seqlib serve")
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="short, on models of a few steps")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(argv)
    if args.smoke:
        args.seconds, args.warm = 2.0, 0.0
    found = [measure(task, trained(args.runs, task, args.smoke), args) for task in args.tasks.split(",")]
    for row in found:
        print("  ".join(f"{name} {value}" for name, value in row.items() if value != ""))
    if args.csv is not None:
        new = not args.csv.exists()
        with open(args.csv, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, found[0])
            if new:
                writer.writeheader()
            writer.writerows(found)
    return int(any(row["lost"] or row["wrong"] or row["exit_code"] for row in found))


if __name__ == "__main__":
    sys.exit(main())
