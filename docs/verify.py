"""Recompute every round of a revealed seed: python3 docs/verify.py config.json rounds.json SERVER_SEED
config.json: body of GET /api/game/config. rounds.json: body of GET /api/game/rounds. Standard library only."""
import hashlib, hmac, json, struct, sys

WILD = "yeti"


def draw(server_seed, client_seed, nonce):
    mac = hmac.new(server_seed.encode(), f"{client_seed}:{nonce}:0".encode(), hashlib.sha256).digest()
    return [number >> 26 for number in struct.unpack(">5I", mac[:20])]


def line_win(row, paytable):  # (pay, count, symbol) of the best run from the left; at equal pay the longer run
    def run(symbol):
        count = next((i for i, s in enumerate(row) if s not in (symbol, WILD)), 5)
        return (paytable[symbol][count - 3] if count >= 3 else 0, count, symbol)
    return max(run(symbol) for symbol in {WILD, next((s for s in row if s != WILD), WILD)})


def expected(config, seed, r):
    stops, per_line = draw(seed, r["clientSeed"], r["nonce"]), int(r["stakePerLine"])
    grid = [[strip[(stop + d) % 64] for d in (-1, 0, 1)] for strip, stop in zip(config["strips"], stops)]
    best = [line_win([grid[i][row] for i, row in enumerate(line)], config["paytable"])
            for line in config["paylines"][: r["lines"]]]
    wins = [{"line": n, "symbol": symbol, "count": count, "payout": str(pay * per_line)}
            for n, (pay, count, symbol) in enumerate(best, 1) if pay]
    payout = sum(pay for pay, _, _ in best) * per_line
    return {"stops": stops, "grid": grid, "wins": wins, "stake": str(per_line * r["lines"]), "payout": str(payout)}


config, history, seed = json.load(open(sys.argv[1])), json.load(open(sys.argv[2])), sys.argv[3]
commit = hashlib.sha256(seed.encode()).hexdigest()
mine = [r for r in history["rounds"] if r["serverSeedHash"] == commit]
for r in mine:
    for name, value in {"version": config["version"], **expected(config, seed, r)}.items():
        if r[name] != value:
            sys.exit(f"round {r.get('id')} nonce {r['nonce']}: {name} is {r[name]}, expected {value}")
print(f"verified {len(mine)} rounds")
