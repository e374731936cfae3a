"""Overrides, names and texts that try to leave the folder, to run code, or to break what they are put into."""

import random
from collections.abc import Iterator

SENTINEL = "sentinel"  # the file that must not come into being
CODE = f"touch {SENTINEL}"

# What is refused although the user has typed it, with exit code 2: nothing comes of it that anybody could want.
REFUSED = [
    *(f"{prefix}_target_=os.system" for prefix in ("", "+", "++", "~")),
    "model._target_=os.system",  # it lacks an argument
    "model._target_=nowhere.at.all",
    "model._target_=lenet",
    "model._target_='os system'",
    "model={_target_:[os.system]}",
    "+model.a.b.c._target_=builtins.eval",
    "+model.extra={a:{b:[{_target_:os.system}]}}",
    "+model.extra=[[{_target_:os.system}]]",
    "+model.extra={'_target_':os.system}",
    '+model.extra={"_target_":os.system}',
    "model._target_@model=lenet",
    "model@_target_=lenet",
    "model@hydra.callbacks.a=lenet",
    "model@hydra.callbacks=lenet",
    "+model@hydra.callbacks.a=lenet",
    "+data.x='${oc.create:{_target_:os.system}}'",
    "+data.x='${oc.decode:\"{_target_: os.system}\"}'",
    "model=[lenet,mnist_cnn]",
    "augment=[affine,elastik]",
    "augment=[{_target_:lenet_jax.augment.random_flop}]",
    "augment=[3]",
    "model=[lenet,lenet5]",
    "augment=3",
    "hydra.launcher=[]",
    "hydra.callbacks=${model}",
    "hydra.job_logging=${model}",
    "hydra.job_logging.handlers.file.class=nowhere.Handler",
    "++hydra.job_logging.root.handlers=[nowhere]",
    "hydra.output_subdir=../out",
    "hydra.output_subdir=/tmp/lenet-jax-out",
    "hydra.output_subdir=a/../../b",
    "hydra.output_subdir=..",
    "hydra.job.name=../a",
    "hydra.mode=MULTIRUN_",
    "data.name='a\x00b'",
    "data.name='a\x1b[31mb'",
    "data.name='a\nb'",
    "data.name='\udcff'",
    "+\x00=1",
    "model=../../../etc/passwd",
    "model=/etc/passwd",
    "hydra/launcher=../../launcher",
    "+hydra/callbacks=x",
    "+experiment@hydra.launcher=default._target_",
]

# Each of these would go on for ever, or crash what reads it.
ENDLESS = [
    "seed=${seed}",
    "trainer.max_epochs=${trainer.batch_size}+${trainer.max_epochs}",
    f"model.hidden_units={'[' * 3000}{']' * 3000}",
    f"model.hidden_units={'{a:' * 3000}1{'}' * 3000}",
    f"trainer.max_epochs={'9' * 5000}",
    "trainer.max_epochs=1e999999999",
    f"data.directory='{'${' * 500}'",
    f"{'a.' * 3000}b=1",
]

# Options of the command line beside overrides, and what only a sweep has: refused as well.
REFUSED_COMMANDS = [
    ["--experimental-rerun", "a.pickle"],
    ["--config-dir", "nowhere"],
    ["--config-path", "pkg://antigravity"],
    ["--cfg", "job", "augment=[{_target_:lenet_jax.augment.random_flop}]"],
    ["-m", "+model._target_=os.system,os.popen"],
    ["-m", "model={_target_:os.system},{_target_:os.popen}"],
    ["-m", "hydra.launcher._target_=os.system,os.popen"],
    ["-m", "seed=1,2", "hydra.mode=RUN"],
    ["hydra.mode=RUN", "-m", "seed=1,2"],
    ["-m", "seed=1,2", "hydra.sweeper.params={_target_:os.system}"],
    ["-m", "seed=1,2", "+hydra.sweeper.params={'+hydra.callbacks.a._target_':os.system}"],
    ["-m", "seed=1,2", "hydra.launcher=null"],
    ["-m", "seed=1,2", "hydra.launcher=${model}"],
    *(
        ["-m", "seed=1,2", f"{prefix}hydra.{plugin}._target_={target}"]
        for prefix, plugin in (("", "launcher"), ("++", "sweeper"))
        for target in (
            *("os.system", "builtins.exec", "subprocess.Popen", "hydra_plugins.lenet_jax", "'hydra_plugins.evil.Evil'"),
            *("hydra._internal.core_plugins.basic_launcher.os.system", "null", "[]", "${seed}", "'${hydra.job.name}'"),
        )
    ),
    ["-m", "seed=1,2", "hydra.launcher._target_=hydra._internal.core_plugins.basic_sweeper.BasicSweeper"],
    ["-m", "seed=1,2", "hydra.output_subdir=../out"],
    ["-m", "seed=1,2", "hydra.sweep.subdir=../${hydra:job.num}"],
]  # fmt: skip

# What looks dangerous and is no more than a text: composed, and nothing comes of it.
HARMLESS = [
    f"data.directory='$({CODE})'",
    f"data.directory='`{CODE}`'",
    f"data.directory='; {CODE} #'",
    f"data.directory='| {CODE}'",
    "data.directory=_target_",
    "data.directory=os.system",
    "data.directory='{_target_: os.system}'",
    "data.directory='ext://os.system'",
    "data.directory='!!python/object/apply:os.system [touch sentinel]'",
    "data.directory='%s%n{0.__class__}'",
    "data.directory='../../../../etc'",
    "data.directory='-rf'",
    "data.directory='<script>alert(1)</script>'",
    "data.directory='=cmd|calc!A0'",
    "data.directory='\u202egnp.exe'",
    "data.directory='é 漢 🙂'",
    "data.directory='${hydra:job.name}'",
    "hydra.verbose=true",
    "hydra/job_logging=stdout",
    "hydra/job_logging=none",
    "hydra/hydra_logging=hydra_debug",
    "hydra/launcher=basic",
    "hydra/sweeper=basic",
    "hydra.launcher._target_=hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "++hydra.sweeper._target_=hydra_plugins.lenet_jax.GridSweeper",
    "hydra.output_subdir=null",
    "hydra.job.name=a-name",
    "hydra.job.chdir=false",
    "+hydra.job_logging.formatters.x={\\(\\):colorlog.ColoredFormatter}",
    "+hydra.job_logging.handlers.x={class:logging.StreamHandler,stream:'ext://sys.stderr'}",
]

# Names of files and folders that lead elsewhere, cannot be written, or could be taken for something else.
NAMES = [
    *("..", "../x", "a/../../x", "/tmp/lenet-jax-hostile", "./../x", "a/b/../../../x", "~/../x", "//x", "...", "."),
    *("a\nb", "a\rb", "a\x00b", "\x00", "a\x1b[2Jb", "a\tb", "\x7f", "a\u2028b", "\udcff\udcfe"),
    *("a" * 300, "a/" * 2000, "é" * 150, "🙂" * 80),
    *("-rf", "--help", "-m", "--config-dir=x", "-"),
    *("é", "漢字", "\u202egnp.exe", "a\u200bb", "﹤script﹥", "e\u0301"),
    *("a b", " a ", "a'b", 'a"b', "a\\b", "a\\", "$HOME", "`id`", "$(id)", ";id", "a|b", "*", "[a]", "{a}", "%n"),
    *("${oc.env:HOME}", "\\${seed}", "sweep.json", "jobs", "jobs/0.json", ".lock", "run.json", "CON", "NUL.txt", ""),
]  # fmt: skip

# Texts that would be elements, attributes or scripts if a page had them as they are.
TEXTS = [
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</table></body></html><h1>other</h1>",
    "</pre><img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    '" style="position:fixed;top:0" x="',
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<a href=javascript:alert(1)>a</a>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example>",
    "<style>*{display:none}</style>",
    "<!-- comment",
    "--><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php system('id') ?>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&amp;lt;script&amp;gt;",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "\x00<b>\x00",
    "<\u202escript>",
    "\u202e\u2066<b>\u2069",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<ScRiPt >alert(1)</sCrIpT >",
    "<<script>alert(1)//<</script>",
    "<img/src=x/onerror=alert(1)//",
    "{{constructor.constructor('alert(1)')()}}",
    "$\\frac{$ $$ \\$ ^_{",
    "]]></p><b",
    "\ud800<b>",
]

_KEYS = (
    *("model", "model.name", "optimizer.learning_rate", "data", "data.directory", "seed"),
    *("trainer.batch_size", "extra"),
    *("hydra", "hydra.launcher", "hydra.sweeper", "hydra.callbacks", "hydra.callbacks.a", "hydra.job.env_set"),
    *("hydra.job_logging.handlers.a", "hydra.hydra_logging.formatters.a", "hydra.searchpath", "hydra.job.name"),
    *("hydra/launcher", "hydra/callbacks", "hydra.job.env_copy", "hydra.output_subdir", "hydra.run.dir"),
    *("model@hydra.a",),
)  # fmt: skip
_LEAVES = (
    *("1", "-1", "1e400", "null", "true", "nan", "a", "''", "'a b'", '"a"', "os.system", "builtins.eval"),
    *("subprocess.Popen",),
    *("'ext://os.system'", "pkg://os", "${seed}", "'${oc.create:{}}'", "'${oc.decode:a}'", "'${${a}:b}'", "../x", "/x"),
    *("'touch sentinel'", "hydra_plugins.lenet_jax.LanesLauncher", "range(3)", "glob(*)", "interval(0,1)", "???"),
    *("é", "\\"),
)  # fmt: skip
_NESTED_KEYS = (
    "_target_",
    "'_target_'",
    "_args_",
    "_partial_",
    "class",
    "'()'",
    "'.'",
    "filename",
    "stream",
    "a",
    "b",
    "PATH",
)


def overrides(seed: int) -> Iterator[str]:
    """Yield overrides without end: keys, prefixes and nested values of a grammar, some of them broken afterwards."""
    rng = random.Random(seed)

    def value(depth: int) -> str:
        kind = rng.random()
        if depth == 0 or kind < 0.4:
            return rng.choice(_LEAVES)
        parts = [value(depth - 1) for _ in range(rng.randint(0, 3))]
        if kind < 0.6:
            return f"[{','.join(parts)}]"
        if kind < 0.9:
            return "{" + ",".join(f"{rng.choice(_NESTED_KEYS)}:{part}" for part in parts) + "}"
        return ",".join(parts)

    while True:
        key = rng.choice(_KEYS) + "".join(f".{rng.choice(_NESTED_KEYS)}" for _ in range(rng.choice((0, 0, 0, 1, 2))))
        text = f"{rng.choice(('', '', '+', '++', '~'))}{key}={value(3)}"
        while rng.random() < 0.2 and text:
            place = rng.randrange(len(text))
            text = (
                text[:place]
                + rng.choice(("", "{", "}", "'", '"', ",", "=", "\x00", "$", "${", ":", "\n", "_target_"))
                + text[place + rng.randint(0, 1) :]
            )
        yield text
