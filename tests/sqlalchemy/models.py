"""Tables of SQLModel, which reads annotations as objects: this file has no `from __future__ import annotations`."""

from sqlmodel import Field, Relationship, SQLModel


class Team(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    players: list["Player"] = Relationship(back_populates="team", sa_relationship_kwargs={"lazy": "selectin"})


class Player(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    points: int = 0
    team_id: int | None = Field(default=None, foreign_key="team.id")
    team: Team | None = Relationship(back_populates="players")
