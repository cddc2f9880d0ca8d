"""The state of a run on disk."""

import torch
from support.training import settings

from liqe_core.training import resume
from liqe_core.training.step import build_model, build_optimizer


def test_a_convolutional_tower_goes_on_with_its_moments_where_its_parameters_are(tmp_path):
    """Its weights lie channels last in memory, a saved tensor does not, and fused AdamW walks memory."""
    chosen = settings(architecture="LIQE-mini")

    def begun():
        model = build_model(chosen)
        return model, build_optimizer(chosen, model)

    def step(model, optimizer, seed):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape).to(parameter)
        optimizer.step()

    model, optimizer = begun()
    step(model, optimizer, 1)
    resume.save_state(tmp_path, 1, resume.pack(model.clip, optimizer), {})
    tensors, _ = resume.load_state(tmp_path)
    resumed, resumed_optimizer = begun()
    resume.unpack(tensors, resumed.clip, resumed_optimizer)
    step(model, optimizer, 2)
    step(resumed, resumed_optimizer, 2)
    assert any(p.ndim == 4 and not p.is_contiguous() for p in model.parameters()), "the case that is meant"
    for (name, value), after in zip(model.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(value, after), name
