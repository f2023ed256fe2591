"""MPA101: what is looked up in a table and given settings makes a network; it is no forward."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.static.program.test_gains import NET, found

SCRIPT = """
import torch
import torch.nn.functional as F
from net import TABLE

def make(config, width):
    return TABLE[config.name]({given})

def main(config, loader):
    net = make(config, 64).cuda()
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in loader:
        loss = F.cross_entropy(net(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize("given", ["config.width, config.depth", "config", "config['width'], 10", "**config"])
def test_the_forward_is_found_behind_a_table(given: str, tmp_path: Path) -> None:
    files = {"train.py": SCRIPT.format(given=given), "net.py": NET + "\nTABLE = {'net': Net}\n"}
    [(line, _)] = found(tmp_path, files)
    assert "net(x" in SCRIPT.splitlines()[line - 1]


def test_networks_of_a_table_run_on_batches(tmp_path: Path) -> None:
    script = SCRIPT.replace("net(x.cuda())", "nets[config.name](x.cuda())").replace(
        "    net = make(config, 64).cuda()", "    nets, net = config.nets, config.nets[config.name].cuda()"
    )
    files = {"train.py": script.format(given="config"), "net.py": NET + "\nTABLE = {'net': Net}\n"}
    assert len(found(tmp_path, files)) == 1


@pytest.mark.parametrize(("step", "confidence"), [("a_optimizer", "possible"), ("w_optimizer", "likely")])
def test_a_search_for_an_architecture(step: str, confidence: str, tmp_path: Path) -> None:
    script = SCRIPT.format(given="config").replace(
        "        optimizer.step()", f"        optimizer.step()\n        config.{step}.step()"
    )
    files = {"train.py": script, "net.py": NET + "\nTABLE = {'net': Net}\n"}
    assert [found_as for _, found_as in found(tmp_path, files)] == [confidence]
