"""click, rich, structlog, jinja2, openpyxl, psutil: what a tool for the command line is made of."""

import click, rich, time, random, sys, structlog, psutil, jinja2, openpyxl, datetime, os
from rich.console import Console
from rich.table import Table
from rich.progress import Progress, track
from rich.live import Live
from rich.traceback import install
from rich.logging import RichHandler

log = structlog.get_logger()


@click.group()
def cli():
    pass


@cli.command()
@click.option("--n", default=3)
def run(n):
    c = Console(force_terminal=True, width=80)
    t = Table(title="t")
    t.add_column("a")
    t.add_column("b")
    for i in range(n):
        t.add_row(str(i), str(random.random()))
    c.print(t)
    log.info("event", n=n, x=object())
    with Progress(console=c) as p:
        k = p.add_task("w", total=10)
        for i in range(10):
            time.sleep(0.02)
            p.advance(k)
    with c.status("working"):
        time.sleep(0.3)
    try:
        1 / 0
    except Exception:
        c.print_exception(show_locals=True)
    print(
        jinja2.Template("{% for x in xs %}{{ x }} {% endfor %}{{ now }}").render(
            xs=range(3), now=datetime.datetime.now()
        )
    )
    wb = openpyxl.Workbook()
    wb.active.append([1, random.random(), datetime.datetime.now()])
    wb.save("x.xlsx")
    print([[v.value for v in r] for r in openpyxl.load_workbook("x.xlsx").active.rows], os.path.getsize("x.xlsx"))
    me = psutil.Process()
    print(
        me.name(),
        me.memory_info().rss,
        me.cpu_times(),
        me.num_threads(),
        me.open_files(),
        me.create_time(),
        psutil.cpu_count(),
        psutil.virtual_memory().total,
        psutil.disk_usage("/").total,
        me.cmdline(),
        me.connections() if hasattr(me, "connections") else 0,
    )
    ch = psutil.Popen(["sleep", "0.1"])
    print(
        ch.status(),
        ch.wait(),
        psutil.pid_exists(ch.pid),
        len(psutil.pids()),
        psutil.net_io_counters().bytes_sent,
        psutil.cpu_percent(0.05),
    )
    click.secho("done", fg="green")
    click.echo(click.style("x", bold=True))
    sys.exit(3)


cli()
