"""The engine `native` in a framework's threads: as many as it has, layers at once, after fork, in the workers of a DataLoader.

Each program is a process of its own, for frameworks take the number of their threads once.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from rnn_common import twins
from rnn_common.native import library

if why := library.absent():
    pytest.skip(why, allow_module_level=True)


def run(program, twin, **environment):
    """What a program prints, which is given 100 seconds."""
    if twin not in twins.installed():
        pytest.skip(f"{twin} is not installed")
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COMMON[twin]) + textwrap.dedent(program)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


# Wide enough for several threads at every step.
COMMON = {
    "torch": """
        import hashlib, os, threading, torch, rnn_torch
        torch.manual_seed(0)
        layer = rnn_torch.LSTM(40, 96, engine="native")
        x = torch.randn(12, 16, 40)

        def digest():
            layer.zero_grad()
            outputs, state = layer(x)
            (outputs.sum() + state[1].square().sum()).backward()
            tensors = [outputs, *state, *(p.grad for p in layer.parameters())]
            return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()
    """,
    "tf": """
        import hashlib, os, threading
        import tensorflow as tf, keras, rnn_tf
        keras.utils.set_random_seed(0)
        layer = rnn_tf.LSTM(96, engine="native", return_sequences=True)
        x = tf.random.stateless_normal((16, 12, 40), (1, 2))
        layer(x)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                outputs = layer(x)
                loss = tf.reduce_sum(outputs**2)
            return [outputs, *tape.gradient(loss, layer.trainable_variables)]

        def digest():
            return hashlib.sha256(b"".join(t.numpy().tobytes() for t in step())).hexdigest()
    """,
}


def test_the_same_bits_with_any_number_of_pytorchs_threads():
    printed = run(
        """
        from rnn_torch import private
        assert private.openmp() is not None  # without it there is one thread, whatever is asked for
        for threads in (1, 2, 3, 5, 1):
            torch.set_num_threads(threads)
            print(digest())
        """,
        "torch",
    )
    assert len(set(printed.split())) == 1


def test_the_same_bits_with_any_number_of_tensorflows_threads():
    digests = {
        run("print(digest(), digest())", "tf", TF_NUM_INTRAOP_THREADS=str(n), TF_NUM_INTEROP_THREADS="2")
        for n in (1, 2, 3)
    }
    assert len(digests) == 1
    assert len(set(digests.pop().split())) == 1


AT_ONCE = """
found = set()

def work():
    for _ in range(30):
        found.add(compute())

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == {compute()}
"""


def test_layers_at_once_in_pytorch():
    """In four threads, each with a team of its own."""
    run(
        """
        torch.set_num_threads(3)
        def compute():
            with torch.no_grad():
                return hashlib.sha256(layer(x)[0].numpy().tobytes()).hexdigest()
        """
        + textwrap.indent(AT_ONCE, " " * 8),
        "torch",
    )


def test_layers_at_once_in_tensorflow():
    """In four threads, which share a pool that has not a thread for each of them; and two in one graph."""
    run(
        """
        compute = digest
        """
        + textwrap.indent(AT_ONCE, " " * 8)
        + """
        two = rnn_tf.LSTM(96, engine="native", return_sequences=True)
        two(x)
        both = tf.function(lambda: [layer(x), two(x)])
        expected = [each.numpy().tobytes() for each in both()]
        for _ in range(50):
            assert [each.numpy().tobytes() for each in both()] == expected
        """,
        "tf",
        TF_NUM_INTRAOP_THREADS="2",
        TF_NUM_INTEROP_THREADS="4",
    )


def test_after_fork():
    """OpenMP's threads are gone in the child, where the layer runs all the same, and in the parent nothing has changed."""
    run(
        """
        torch.set_num_threads(3)
        expected = digest()
        child = os.fork()
        if child == 0:
            os._exit(0 if digest() == expected else 3)
        assert os.waitpid(child, 0)[1] == 0
        assert digest() == expected
        """,
        "torch",
    )


def test_in_the_workers_of_a_dataloader():
    run(
        """
        torch.set_num_threads(3)
        with torch.no_grad():
            expected = layer(x)[0]

        class Encoded(torch.utils.data.Dataset):
            def __len__(self):
                return 6

            def __getitem__(self, i):
                with torch.no_grad():
                    return layer(x)[0]

        for batch in torch.utils.data.DataLoader(Encoded(), batch_size=2, num_workers=2):
            assert torch.equal(batch, torch.stack([expected] * 2))
        """,
        "torch",
    )
