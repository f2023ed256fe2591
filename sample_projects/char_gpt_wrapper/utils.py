import torch


class LossScaler:
    """Scales, backpropagates, clips and steps in one call, as the scaler of timm does."""

    def __init__(self, device, enabled=True):
        self._scaler = torch.amp.GradScaler(device.type, enabled=enabled)

    def __call__(self, loss, optimizer, parameters, clip_grad=None, need_update=True):
        self._scaler.scale(loss).backward()
        norm = None
        if need_update:
            if clip_grad is not None:
                norm = torch.nn.utils.clip_grad_norm_(parameters, clip_grad)
            self._scaler.unscale_(optimizer)
            self._scaler.step(optimizer)
            self._scaler.update()
        return norm

    def state_dict(self):
        return self._scaler.state_dict()

    def load_state_dict(self, state):
        self._scaler.load_state_dict(state)


class Average:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, value):
        self.total += value
        self.count += 1

    @property
    def value(self):
        return self.total / max(1, self.count)
