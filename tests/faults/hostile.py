"""Overrides, names and texts that try to run code, to leave the folder, or to break what they are put into."""

import random
from collections.abc import Iterator

SENTINEL = "sentinel"  # the file that must not come into being
CODE = f"touch {SENTINEL}"

# Each of these would run code, or change what is run, and is refused with exit code 2. {} is a command.
REFUSED = [
    *(f"{prefix}model._target_=os.system" for prefix in ("", "+", "++")),
    *(f"{prefix}_target_=os.system" for prefix in ("", "+", "++", "~")),
    "+model.a.b.c._target_=builtins.eval",
    "++model={_target_:os.system,command:'{}'}",
    "+model.extra={a:{b:[{_target_:os.system}]}}",
    "+model.extra=[[{_target_:os.system}]]",
    "+model.extra={'_target_':os.system}",
    '+model.extra={"_target_":os.system}',
    "optimizer={_target_:subprocess.run,args:[touch,sentinel]}",
    "model._target_@model=lenet",
    "model@_target_=lenet",
    "model@hydra.callbacks.a=lenet",
    "model@hydra.callbacks=lenet",
    "+model@hydra.callbacks.a=lenet",
    "+data.x='${oc.create:{_target_:os.system}}'",
    "+data.x='${oc.decode:\"{_target_: os.system}\"}'",
    *(
        f"{prefix}hydra.{plugin}._target_={target}"
        for prefix in ("", "++")
        for plugin in ("launcher", "sweeper")
        for target in (
            *("os.system", "builtins.exec", "subprocess.Popen", "hydra_plugins.lenet_jax", "'hydra_plugins.evil.Evil'"),
            *("hydra._internal.core_plugins.basic_launcher.os.system", "null", "[]", "${seed}", "'${hydra.job.name}'"),
        )
    ),
    "hydra.launcher._target_=hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra.sweeper={_target_:os.system,_args_:['{}']}",
    "hydra.launcher={_target_:os.system}",
    "++hydra.launcher={_target_:os.system}",
    "+hydra.launcher.nested={_target_:os.system}",
    "+hydra.launcher.nested._target_=os.system",
    "+hydra.sweeper.params={_target_:os.system}",
    "+hydra.launcher.nested='${oc.decode:\"{_tar${model.name}get_: os.system}\"}'",
    "+hydra.launcher.nested='${oc.create:${model}}'",
    "+hydra.launcher.nested='${${model.name}:a}'",
    "+hydra.launcher.nested=${model}",
    "hydra.launcher=${model}",
    "hydra.launcher=null",
    "hydra.launcher=[]",
    "hydra.sweeper='${oc.create:{}}'",
    "hydra={launcher:{_target_:os.system}}",
    "+hydra={callbacks:{a:{_target_:os.system}}}",
    "hydra={job:{env_set:{PATH:/tmp}}}",
    "+hydra.callbacks.x._target_=os.system",
    "+hydra.callbacks.x={_target_:os.system,command:'{}'}",
    "hydra.callbacks={x:{_target_:hydra.experimental.callbacks.LogJobReturnCallback}}",
    "+hydra.callbacks.x={a:1}",
    "hydra.callbacks=${model}",
    "+hydra.launcher.pre_dispatch='__import__(\"os\").system(\"{}\")'",
    "+hydra.launcher.pre_dispatch=n_jobs**9**9",
    "hydra.job_logging=${model}",
    "hydra.job_logging.handlers.file.class=subprocess.Popen",
    "hydra.job_logging.handlers.file.filename=../../x",
    "hydra.job_logging.handlers.file.filename=/etc/x.log",
    "++hydra.job_logging.root.handlers=['ext://os.system']",
    *(
        f"hydra.searchpath=[{path}]"
        for path in ("pkg://antigravity", "'pkg://os.path'", "structured://a", "http://a/b", "file:///tmp,pkg://this")
    ),
    "++hydra.searchpath=[pkg://antigravity]",
    *(f"+hydra.job.env_set.{name}=/tmp/evil" for name in ("PATH", "LD_PRELOAD", "PYTHONPATH", "GIT_SSH_COMMAND", "A")),
    "hydra.job.env_set={LD_PRELOAD:/tmp/evil.so}",
    "hydra.job.env_copy=[PATH]",
    "+hydra.job.env_copy=[HOME,PATH]",
    "hydra.output_subdir=../out",
    "hydra.output_subdir=/tmp/lenet-jax-out",
    "hydra.output_subdir=a/../../b",
    "hydra.output_subdir=..",
    "hydra.output_subdir=${data.name}",
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
]  # fmt: skip
REFUSED = [override.replace("'{}'", f"'{CODE}'") for override in REFUSED]

# Each of these has `logging.config` import, call or open something.
LOGGING = [
    *(
        f"{prefix}hydra.{log}.{rest}"
        for log in ("job_logging", "hydra_logging")
        for prefix in ("+", "++")
        for rest in (
            "handlers.x={class:subprocess.Popen,args:[touch,sentinel]}",
            "handlers.x={\\(\\):os.system,command:'{}'}",
            "handlers.x={\\(\\):'ext://os.system',command:'{}'}",
            "handlers.x={class:logging.handlers.SocketHandler,host:localhost,port:1}",
            "handlers.x={class:logging.handlers.QueueHandler,queue:os.system}",
            "handlers.x={class:logging.StreamHandler,stream:'ext://os.environ'}",
            "handlers.x={class:logging.StreamHandler,stream:'cfg://handlers'}",
            "handlers.x={class:logging.FileHandler,filename:../out.log}",
            "handlers.x={class:logging.FileHandler,filename:/tmp/lenet-jax-out.log}",
            "handlers.x={class:logging.FileHandler,filename:'${hydra.runtime.output_dir}/../out.log'}",
            "handlers.x={class:logging.FileHandler,filename:.profile}",
            "formatters.x={\\(\\):subprocess.Popen,args:[touch,sentinel]}",
            "formatters.x={class:os.system}",
            "formatters.x={format:'${oc.decode:a}'}",
            "filters.x={\\(\\):os.system,command:'{}'}",
            "filters.x={\\(\\):{a:1}}",
            "handlers.x={class:[os.system]}",
        )
    ),
]  # fmt: skip

LOGGING = [override.replace("'{}'", f"'{CODE}'") for override in LOGGING]

# Options of the command line beside overrides, and what only a sweep has: refused as well.
REFUSED_COMMANDS = [
    ["--experimental-rerun", "a.pickle"],
    ["--config-dir", "nowhere"],
    ["--config-path", "pkg://antigravity"],
    ["--cfg", "job", "hydra.searchpath=[pkg://antigravity]"],
    ["--info", "all", "hydra.searchpath=[pkg://antigravity]"],
    ["--cfg", "hydra", "+hydra.callbacks.a._target_=os.system"],
    ["-m", "+model._target_=os.system,os.popen"],
    ["-m", "+model.a={_target_:os.system},{_target_:os.popen}"],
    ["-m", "model={_target_:os.system},{_target_:os.popen}"],
    ["-m", "+model.a=choice({_target_:os.system},{_target_:os.popen})"],
    ["-m", "hydra.launcher._target_=os.system,os.popen"],
    ["-m", "seed=1,2", "hydra.launcher._target_=os.system"],
    ["-m", "seed=1,2", "hydra.sweeper={_target_:os.system}"],
    ["-m", "seed=1,2", "hydra/launcher=basic", "+hydra.callbacks.a._target_=os.system"],
    ["-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.pre_dispatch='__import__(\"os\").system(\"a\")'"],
    ["-m", "seed=1,2", "hydra.mode=RUN"],
    ["hydra.mode=RUN", "-m", "seed=1,2"],
    ["-m", "seed=1,2", "hydra.sweeper.params={_target_:os.system}"],
    ["-m", "seed=1,2", "+hydra.sweeper.params={'+hydra.callbacks.a._target_':os.system}"],
    ["-m", "seed=1,2", "hydra.job.env_set={PATH:/tmp}"],
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
