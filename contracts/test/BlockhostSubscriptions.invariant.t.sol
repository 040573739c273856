// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BlockhostSubscriptions} from "../src/BlockhostSubscriptions.sol";
import {IBlockhostSubscriptions} from "../src/interfaces/IBlockhostSubscriptions.sol";
import {Test} from "./Test.sol";
import {TestToken} from "./Tokens.sol";
import {ITradingPair, UniswapV2} from "./UniswapV2.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @dev Everyone around one BlockhostSubscriptions: its owner, three buyers, and traders of the token it takes, who do
/// what they may and what they may not. It keeps its own account of what must come of it.
contract Shop is UniswapV2 {
    struct Expected {
        uint256 planId;
        address subscriber;
        uint256 expiresAt;
        bool cancelled;
    }

    struct ExpectedPlan {
        uint256 price;
        bool active;
        bool renewable;
    }

    BlockhostSubscriptions public subs;
    // Six decimals, none, and eighteen: the last is priced by a pair with the first.
    TestToken[3] public tokens;
    Expected[] public expected;
    mapping(TestToken token => uint256) public paid;
    mapping(TestToken token => uint256) public withdrawn;
    mapping(address buyer => uint256[]) private _bought;
    ExpectedPlan[2] private _plans;
    ITradingPair private _pair;
    bool private _paused;

    constructor() {
        _deployUniswap();
        subs = new BlockhostSubscriptions();
        tokens[0] = new TestToken("USD Coin", "USDC", 6);
        tokens[1] = new TestToken("Whole dollars", "USD", 0);
        tokens[2] = new TestToken("Token", "TOK", 18);
        _pair = _addLiquidity(tokens[2], 50e18, tokens[0], 100_000e6);
        subs.setPrimaryStablecoin(address(tokens[1]));
        subs.addPaymentMethod(address(tokens[2]), address(_pair), address(tokens[0]));
        for (uint256 i = 0; i < 2; i++) {
            _plans[i] = ExpectedPlan({price: 1 + 998 * i, active: true, renewable: true});
            subs.createPlan("", _plans[i].price);
        }
        for (uint256 i = 0; i < 9; i++) {
            tokens[i / 3].mint(buyer(i), 1e40);
            vm.prank(buyer(i));
            tokens[i / 3].approve(address(subs), type(uint256).max);
        }
        vm.warp(block.timestamp + 30 minutes);
    }

    function count() external view returns (uint256) {
        return expected.length;
    }

    function get(uint256 id) external view returns (Expected memory) {
        return expected[id - 1];
    }

    function bought(address who) external view returns (uint256[] memory) {
        return _bought[who];
    }

    function buyer(uint256 which) public pure returns (address) {
        return _wallet(["a", "b", "c"][which % 3]);
    }

    // ---- what buyers do

    function buy(uint256 who, uint256 which, uint256 days_, bool withToken, uint256 slack) external {
        uint256 planId = 1 + which % 2;
        ExpectedPlan memory plan = _plans[which % 2];
        days_ = _bound(days_, 0, 400);
        uint256 price = days_ == 0 ? 0 : _priceOf(planId, days_, withToken);
        uint256 max = slack % 4 == 0 ? price - Math.min(price, 1) : type(uint256).max;
        bool mustPass = plan.active && !_paused && days_ != 0 && max >= price;
        uint256 held = _held(withToken);
        vm.prank(buyer(who));
        (bool ok,) = address(subs)
            .call(
                abi.encodeCall(
                    IBlockhostSubscriptions.buySubscriptionWithMax, (planId, days_, withToken ? 2 : 1, max, "")
                )
            );
        vm.assertEq(ok ? 1 : 0, mustPass ? 1 : 0, "buySubscription");
        if (!ok) return;
        _account(withToken, held, price);
        expected.push(
            Expected({
                planId: planId, subscriber: buyer(who), expiresAt: block.timestamp + days_ * 1 days, cancelled: false
            })
        );
        _bought[buyer(who)].push(expected.length);
    }

    function extend(uint256 who, uint256 which, uint256 days_, bool withToken) external {
        if (expected.length == 0) return;
        uint256 id = 1 + which % expected.length;
        Expected storage e = expected[id - 1];
        ExpectedPlan memory plan = _plans[e.planId - 1];
        days_ = _bound(days_, 1, 20_000);
        uint256 end = Math.max(e.expiresAt, block.timestamp) + days_ * 1 days;
        bool mustPass = !e.cancelled && plan.renewable && end <= block.timestamp + 36_500 days;
        uint256 price = _priceOf(e.planId, days_, withToken);
        uint256 held = _held(withToken);
        vm.prank(buyer(who));
        (bool ok,) = address(subs)
            .call(abi.encodeCall(IBlockhostSubscriptions.extendSubscription, (id, days_, withToken ? 2 : 1)));
        vm.assertEq(ok ? 1 : 0, mustPass ? 1 : 0, "extendSubscription");
        if (!ok) return;
        _account(withToken, held, price);
        (,, uint256 expiresAt,,) = subs.getSubscription(id);
        vm.assertLe(e.expiresAt + 1, expiresAt, "an extension never shortens");
        e.expiresAt = end;
    }

    // ---- what the owner does

    function cancel(uint256 which) external {
        uint256 id = which % (expected.length + 2);
        bool mustPass = id != 0 && id <= expected.length && !expected[id - 1].cancelled;
        (bool ok,) = address(subs).call(abi.encodeCall(IBlockhostSubscriptions.cancelSubscription, (id)));
        vm.assertEq(ok ? 1 : 0, mustPass ? 1 : 0, "cancelSubscription");
        if (ok) (expected[id - 1].cancelled, expected[id - 1].expiresAt) = (true, block.timestamp);
    }

    function configure(uint256 which, uint256 price, uint256 flags) external {
        uint256 i = which % 2;
        // Open more often than closed.
        _plans[i] = ExpectedPlan(_bound(price, 1, 1e6), flags % 4 != 0, flags / 4 % 4 != 0);
        subs.updatePlan(1 + i, "", _plans[i].price, _plans[i].active);
        subs.setPlanRenewable(1 + i, _plans[i].renewable);
        _paused = flags / 16 % 8 == 0;
        subs.setPurchasesPaused(_paused);
        subs.setSlippageBps(flags / 128 % 1001);
    }

    function withdraw(uint256 which) external {
        TestToken token = tokens[which % 3];
        uint256 amount = token.balanceOf(address(subs));
        if (amount == 0) return;
        subs.withdrawFunds(address(token), _wallet("bank"));
        withdrawn[token] += amount;
    }

    // ---- what traders and time do

    function trade(uint256 amount, bool buys) external {
        if (buys) _trade(tokens[0], tokens[2], _bound(amount, 1e6, 1_000_000e6));
        else if (_liquidity() > 40_000e6) _trade(tokens[2], tokens[0], _bound(amount, 1e12, 50e18));
    }

    function wait_(uint256 time) external {
        vm.warp(block.timestamp + _bound(time, 1, 30 days));
    }

    function updatePrice() external {
        subs.updatePrice(2);
    }

    // ---- the account

    /// @dev The exact price for a stablecoin, rounded up. For the token what the contract says, as the average may make it
    /// more, once it is seen not to be below the present price, rounded up.
    function _priceOf(uint256 planId, uint256 days_, bool withToken) private returns (uint256 price) {
        uint256 cents = _plans[planId - 1].price * days_;
        if (!withToken) return Math.ceilDiv(cents, 100);
        if (_liquidity() < 10_000e6) {
            tokens[0].mint(address(_pair), 10_000e6);
            _pair.sync();
        }
        (uint256 first, uint256 second,) = _pair.getReserves();
        (uint256 token, uint256 stable) = _pair.token0() == address(tokens[2]) ? (first, second) : (second, first);
        uint256 scaled = cents * 1e6 * (10_000 + subs.slippageBps());
        price = subs.calculatePayment(planId, days_, 2);
        vm.assertLe(Math.mulDiv(scaled, token, stable * 1e6, Math.Rounding.Ceil), price, "the present price");
    }

    function _account(bool withToken, uint256 heldBefore, uint256 price) private {
        TestToken token = tokens[withToken ? 2 : 1];
        vm.assertLe(1, price, "nothing is free");
        vm.assertEq(token.balanceOf(address(subs)) - heldBefore, price, "the price, to the unit");
        paid[token] += price;
    }

    function _held(bool withToken) private view returns (uint256) {
        return tokens[withToken ? 2 : 1].balanceOf(address(subs));
    }

    function _liquidity() private view returns (uint256) {
        return tokens[0].balanceOf(address(_pair));
    }
}

contract BlockhostSubscriptionsInvariantTest is Test {
    Shop private _shop;
    BlockhostSubscriptions private _subs;

    function setUp() external {
        vm.warp(1_770_000_000);
        _shop = new Shop();
        _subs = _shop.subs();
        bytes4[] memory selectors = new bytes4[](8);
        selectors[0] = Shop.buy.selector;
        selectors[1] = Shop.extend.selector;
        selectors[2] = Shop.cancel.selector;
        selectors[3] = Shop.configure.selector;
        selectors[4] = Shop.withdraw.selector;
        selectors[5] = Shop.trade.selector;
        selectors[6] = Shop.wait_.selector;
        selectors[7] = Shop.updatePrice.selector;
        _target(address(_shop), selectors);
    }

    function invariant_moneyInIsMoneyOutAndHeld() external view {
        for (uint256 i = 0; i < 3; i++) {
            TestToken token = _shop.tokens(i);
            vm.assertEq(token.balanceOf(_wallet("bank")), _shop.withdrawn(token), "out");
            vm.assertEq(_shop.paid(token), _shop.withdrawn(token) + token.balanceOf(address(_subs)), "in");
        }
    }

    function invariant_subscriptionsAreAsTheirPartiesMadeThem() external view {
        uint256 length = _shop.count();
        vm.assertEq(_subs.getTotalSubscriptionCount(), length, "count");
        uint256 expired = 0;
        for (uint256 id = 1; id <= length; id++) {
            Shop.Expected memory e = _shop.get(id);
            (uint256 planId, address subscriber, uint256 expiresAt, bool isActive, bool cancelled) =
                _subs.getSubscription(id);
            vm.assertEq(planId, e.planId, "planId");
            vm.assertEq(subscriber, e.subscriber, "subscriber");
            vm.assertEq(expiresAt, e.expiresAt, "expiresAt");
            vm.assertTrue(cancelled == e.cancelled, "cancelled");
            vm.assertTrue(isActive == (!e.cancelled && e.expiresAt > block.timestamp), "isActive");
            if (!isActive && !cancelled) expired++;
        }
        vm.assertEq(_subs.getExpiredSubscriptions(0, length).length, expired, "expired");
    }

    function invariant_everySubscriptionIsListedForItsBuyer() external view {
        for (uint256 i = 0; i < 3; i++) {
            uint256[] memory listed = _subs.getSubscriptionsBySubscriber(_shop.buyer(i));
            vm.assertEq(abi.encode(listed), abi.encode(_shop.bought(_shop.buyer(i))), "listed");
        }
    }
}
