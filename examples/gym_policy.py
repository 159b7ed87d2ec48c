"""A recurrent policy in gymnasium: a cue at the start says where to turn at the end."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.distributions import Categorical

from memcore.errors import how_to_install
from torch_adapters import DNC, detach_state

try:
    import gymnasium
except ImportError:
    raise SystemExit(f"this example needs gymnasium: {how_to_install('examples')}") from None


class Corridor(gymnasium.Env):
    """See a cue, walk 4 to 9 steps, turn to the side of the cue: 1, or to the other: -1."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)  # cue, whether at the end
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.side, self.left = int(self.np_random.integers(2)), int(self.np_random.integers(4, 10))
        return np.array([2 * self.side - 1, 0], np.float32), {}

    def step(self, action):
        self.left -= 1
        turned = self.left < 0  # before that, whatever is done leads on
        reward = float(2 * (action == self.side) - 1) if turned else 0.0
        return np.array([0, self.left == 0], np.float32), reward, turned, False, {}


def play(model, envs, seen, state, start, steps, forgetful=False):
    """Steps of all copies; a copy that ended begins anew, a forgetful policy at every step."""
    taken = []
    for _ in range(steps):
        output, state = model.step(torch.from_numpy(seen), state, torch.from_numpy(start))
        policy, value = Categorical(logits=output[:, :2]), output[:, 2]
        action = policy.sample()
        seen, reward, ended, _, _ = envs.step(action.numpy())
        taken.append((policy.log_prob(action), policy.entropy(), value, reward, ended))
        start = ended | forgetful
    turns = np.concatenate([reward[ended] > 0 for *_, reward, ended in taken])
    return taken, turns.mean(), (seen, state, start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = DNC(2, 32, num_hidden_layers=1, nr_cells=8, cell_size=8, read_heads=1, output_size=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    envs = gymnasium.vector.SyncVectorEnv([Corridor] * 16, autoreset_mode="SameStep")
    where = envs.reset(seed=options.seed)[0], None, np.ones(16, bool)
    for update in range(1, options.updates + 1):
        taken, right, (seen, state, start) = play(model, envs, *where, 16)
        worth, loss = taken[-1][2].detach(), torch.zeros(16)  # the last value stands for the rest
        for log_probability, entropy, value, reward, ended in reversed(taken[:-1]):
            worth = torch.from_numpy(reward).float() + 0.9 * worth * torch.from_numpy(~ended)
            gain = worth - value
            loss += gain.square() / 2 - log_probability * gain.detach() - 0.01 * entropy
        optimizer.zero_grad()
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        where = seen, detach_state(state), start  # truncated backpropagation
        if update % 50 == 0:
            print(f"update {update}: {right:.0%} of the turns are right")
    with torch.no_grad():
        print(f"in the end: {play(model, envs, *where, 200)[1]:.1%}")
        forgetful = play(model, envs, *where, 200, forgetful=True)[1]
        print(f"the same policy, its state emptied at every step: {forgetful:.1%}")
